// Command init is the first process of the builder's boot test: it shows that
// the kernel unpacked the initramfs, that modules load in the order that
// modules.dep gives, and that the toolchain's defaults are the module's.
package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			say("mount %s: %v", m[1], err)
		}
	}
	for _, name := range []string{"e1000e", "virtio_net", "tg3", "squashfs", "overlay", "loop"} {
		if err := load(name); err != nil {
			say("load %s: %v", name, err)
		}
	}
	lines, _ := os.ReadFile("/proc/modules")
	for line := range strings.Lines(string(lines)) {
		name, _, _ := strings.Cut(line, " ")
		say("live %s", name)
	}
	say("mux %s", mux())
	say("done")
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func say(format string, args ...any) {
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(f, "boot-test: "+format+"\n", args...)
		f.Close()
	}
}

// load loads a module and what modules.dep says it needs, last word first.
func load(name string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir := filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]))
	list, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		file, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		if filepath.Base(file) != name+".ko" {
			continue
		}
		order := append([]string{file}, strings.Fields(deps)...)
		slices.Reverse(order)
		for _, rel := range order {
			f, err := os.Open(filepath.Join(dir, rel))
			if err != nil {
				return err
			}
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
			if err != nil && err != unix.EEXIST {
				return fmt.Errorf("%s: %w", rel, err)
			}
		}
		return nil
	}
	return fmt.Errorf("not in modules.dep")
}

// mux tells whether net/http knows wildcards; it doesn't if the busybox was
// compiled with the GODEBUG of Go 1.20.
func mux() string {
	m := http.NewServeMux()
	m.HandleFunc("GET /x/{id}", func(http.ResponseWriter, *http.Request) {})
	r, err := http.NewRequest("GET", "/x/7", nil)
	if err != nil {
		return err.Error()
	}
	_, pattern := m.Handler(r)
	return pattern
}
