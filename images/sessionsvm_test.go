package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/vmlab"
)

// Stage 1 of two machines, each of another session of one golden-serve: by PXE,
// the boot line and the registration each comes to its own.
func TestSessionsBootMachines(t *testing.T) {
	if os.Getenv("SESSIONS_VM") == "" {
		t.Skip("boots two machines: SESSIONS_VM=1 runs it")
	}
	h := newHall(t, 20*time.Minute)
	for name, text := range map[string]string{
		"desc": "linux 1000\nswap fill\n", "root/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", "root/etc/hostname": "golden\n",
		"root/usr/bin/true": "", "root/sbin/init": "", "root/usr/lib/grub/i386-pc/modinfo.sh": "", "root/boot/vmlinuz": "",
		"f.yaml": "interface: " + vmlab.Bridge + "\ndhcp: full\nimages: " + h.images + "\nconsole: console=ttyS0,115200 " + vmlab.KernelWords + "\ndeployments:\n" +
			"  - {session: room1, macs: [52:54:00:77:00:01], root: root, partition: sda=desc, loader: none}\n" +
			"  - {session: room2, macs: [52:54:00:77:00:02], root: root, partition: sda=desc, loader: none}\n",
	} {
		path := filepath.Join(h.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	h.serve, err = h.lab.Start(vmlab.ProcessSpec{Name: "golden-serve", Dir: h.dir, Args: []string{filepath.Join(bin, "golden-serve"), "sessions", "f.yaml"},
		Env: []string{"KAMETHOD_STATE=" + filepath.Join(h.dir, "state")}})
	if err != nil {
		t.Fatal(err)
	}
	for n, session := range map[int]string{1: "room1", 2: "room2"} {
		m := h.power(n, 1024)
		h.expect(m, `this is node \d+ of session `+session)
		if text := m.Console.Text(); strings.Count(text, "of session ") != strings.Count(text, "of session "+session) {
			t.Errorf("machine %d was in another session, too:\n%s", n, text)
		}
		m.Kill()
	}
	h.serve.Interrupt(time.Minute)
	if err := h.serve.Wait(h.ctx); err == nil {
		t.Error("interrupted, and its exit status is 0")
	}
	log, err := os.ReadFile(h.serve.Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"room1: ", "room2: ", "mac=52:54:00:77:00:01 stage=stage1", "mac=52:54:00:77:00:02 stage=stage1",
	} {
		if !strings.Contains(string(log), want) {
			t.Errorf("want %q in\n%s", want, log)
		}
	}
	for line := range strings.Lines(string(log)) {
		here := strings.Contains(line, "node is here")
		if here && strings.HasPrefix(line, "room1: ") != strings.Contains(line, "52:54:00:77:00:01") {
			t.Errorf("a machine in the wrong session: %s", line)
		}
	}
}
