package builder_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBoot boots stage 1 with the kernel beside it. Its init loads modules in
// the order of modules.dep and says so on the serial console.
func TestBoot(t *testing.T) {
	need(t, "qemu-system-x86_64")
	b := images(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", filepath.Join(b.dir, "vmlinuz"), "-initrd", filepath.Join(b.dir, "all.rdz"),
		"-append", "console=ttyS0 loglevel=3 panic=-1 no_timer_check").CombinedOutput()
	console := strings.ReplaceAll(string(out), "\r", "")
	if err != nil {
		t.Fatalf("qemu: %v\n%s", err, console)
	}
	for _, want := range []string{"live e1000e", "live tg3", "live libphy", "live virtio_net", "live squashfs", "live overlay", "live loop", "mux GET /x/{id}", "done"} {
		if !strings.Contains(console, "boot-test: "+want+"\n") {
			t.Errorf("console lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(console)
	}
}
