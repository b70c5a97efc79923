package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// order is what package vmtest wants, from /order.json.
type order struct {
	Args  []string `json:"args"` // the test's
	Env   []string `json:"env"`
	Disks int      `json:"disks"` // how many there have to be
}

// testLine is the serial port for what the test prints; the kernel has the
// other one for itself.
const testLine = "/dev/ttyS1"

func say(text string) {
	f, err := os.OpenFile(testLine, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Fprint(os.Stderr, text)
		return
	}
	defer f.Close()
	_, _ = io.WriteString(f, text)
}

func run() (int, error) {
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sys", "/sys", "sysfs"}, {"dev", "/dev", "devtmpfs"}} {
		if err := mount(m[0], m[1], m[2], 0, ""); err != nil {
			return 0, err
		}
	}
	if err := loadAll("/modules"); err != nil {
		return 0, err
	}
	b, err := os.ReadFile("/order.json")
	if err != nil {
		return 0, err
	}
	var o order
	if err := json.Unmarshal(b, &o); err != nil {
		return 0, fmt.Errorf("read /order.json: %w", err)
	}
	if err := enter(); err != nil {
		return 0, err
	}
	if err := waitDisks(o.Disks); err != nil {
		return 0, err
	}
	return test(o)
}

func mount(from, at, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, at, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", from, at, err)
	}
	return nil
}

// loadAll loads the modules of a folder in the order of their names.
func loadAll(dir string) error {
	names, err := filepath.Glob(dir + "/*.ko")
	if err != nil {
		return err
	}
	for _, n := range names {
		f, err := os.Open(n)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", n, err)
		}
	}
	return nil
}

// enter makes the overlay and steps into it.
func enter() error {
	if err := loop("/rescue.sqfs", "/dev/loop0"); err != nil {
		return err
	}
	if err := mount("/dev/loop0", "/lower", "squashfs", unix.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := mount("upper", "/upper", "tmpfs", 0, "size=75%"); err != nil {
		return err
	}
	for _, d := range []string{"/upper/data", "/upper/work", "/upper/swap"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := mount("root", "/root", "overlay", 0, "lowerdir=/over:/lower,upperdir=/upper/data,workdir=/upper/work"); err != nil {
		return err
	}
	for _, d := range []string{"proc", "sys", "dev"} {
		if err := unix.Mount("/"+d, "/root/"+d, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", d, err)
		}
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount("/root", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	for _, at := range []string{"/run", "/tmp"} {
		if err := mount("tmpfs", at, "tmpfs", 0, "mode=1777"); err != nil {
			return err
		}
	}
	return nil
}

func loop(file, device string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	// The write-open of the device doesn't matter: the file's is read-only.
	if err := unix.IoctlSetInt(int(d.Fd()), unix.LOOP_SET_FD, int(f.Fd())); err != nil {
		return fmt.Errorf("loop device %s: %w", device, err)
	}
	return nil
}

// waitDisks has stage 2's own program load drivers until all disks are there,
// as some take their time: everything in /sys/block but what is made of
// memory. How long that may take is for the host to say, whose limit for the
// machine ends it: the clock in here runs as the host finds time.
func waitDisks(want int) error {
	for tries := 1; ; tries++ {
		names, err := disks()
		if err != nil || len(names) >= want {
			return err
		}
		if out, err := command("drvprobe").CombinedOutput(); err != nil {
			return fmt.Errorf("drvprobe: %w: %s", err, out)
		}
		if tries%100 == 0 {
			say(fmt.Sprintf("vminit: %d disks, waiting for %d: %v\n", len(names), want, names))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func disks() ([]string, error) {
	all, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range all {
		if !strings.HasPrefix(e.Name(), "loop") && !strings.HasPrefix(e.Name(), "ram") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func command(name string, args ...string) *exec.Cmd {
	os.Setenv("PATH", "/sbin:/usr/sbin:/bin:/usr/bin:/bbin") // also for LookPath
	return exec.Command(name, args...)
}

// test runs it and passes on what it prints. Its two streams are one.
func test(o order) (int, error) {
	cmd := command("/work/test", o.Args...)
	cmd.Dir = "/work"
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Env = append(cmd.Env, "HOME=/tmp", "TMPDIR=/tmp")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the test: %w", err)
	}
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			say(string(bytes.TrimRight(line, "\n")) + "\n")
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil // a signal's is -1
	}
	return 0, err
}
