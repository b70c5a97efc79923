//go:build !race

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/status"
)

// images are what make image built, or those that KAMETHOD_IMAGES names.
func images(t *testing.T) (kernel, initrd string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, tool := range []string{"ip", "dnsmasq", "qemu-system-x86_64"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s isn't installed", tool)
		}
	}
	dir := os.Getenv("KAMETHOD_IMAGES")
	if dir == "" {
		dir = "../../../../images"
	}
	kernel, initrd = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "all.rdz")
	for _, f := range []string{kernel, initrd} {
		if _, err := os.Stat(f); err != nil {
			t.Skipf("no image to boot: %v; run make image first, or set KAMETHOD_IMAGES", err)
		}
	}
	return kernel, initrd
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// network is a namespace with a tap interface per machine and, on all of
// them, a DHCP server that is no golden node.
func network(t *testing.T) (ns string) {
	t.Helper()
	ns = fmt.Sprintf("kainit-%d", os.Getpid())
	ip(t, "netns", "add", ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	ip(t, "-n", ns, "link", "set", "lo", "up")
	ip(t, "-n", ns, "link", "add", "br0", "type", "bridge")
	ip(t, "-n", ns, "addr", "add", "10.77.0.1/24", "brd", "+", "dev", "br0")
	ip(t, "-n", ns, "link", "set", "br0", "up")
	for i := range 2 {
		tap := fmt.Sprintf("tap%d", i)
		ip(t, "-n", ns, "tuntap", "add", "dev", tap, "mode", "tap")
		ip(t, "-n", ns, "link", "set", tap, "master", "br0", "up")
	}
	start(t, nil, "ip", "netns", "exec", ns, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--pid-file=",
		"--interface=br0", "--bind-interfaces", "--dhcp-range=10.77.0.100,10.77.0.110,255.255.255.0,1h", "--user=root",
		"--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--dhcp-authoritative", "--no-ping")
	return ns
}

func start(t *testing.T, out *os.File, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...) // ip netns exec execs: the child is the program itself
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// onConsole waits until all of want stand in the file.
func onConsole(t *testing.T, path string, limit time.Duration, want ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		missing := ""
		for _, w := range want {
			if !bytes.Contains(b, []byte(w)) {
				missing = w
			}
		}
		if missing == "" {
			return string(b)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no %q on the console within %s:\n%s", missing, limit, b)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// TestBoot boots stage 1 with two sorts of network card, on a network without
// a golden node. It must get its lease on the interface that BOOTIF names,
// and name a malformed word.
func TestBoot(t *testing.T) {
	kernel, initrd := images(t)
	ns := network(t)
	driver := map[string]string{ // in the words of the old manual's log
		"virtio-net-pci": `installing driver virtio_net (for "Red Hat, Inc.|Virtio 1.0 network device")`,
		"e1000":          `installing driver e1000 (for "Intel Corporation|82540EM Gigabit Ethernet Controller")`,
	}
	for i, card := range []string{"virtio-net-pci", "e1000"} {
		t.Run(card, func(t *testing.T) {
			out, err := os.Create(filepath.Join(t.TempDir(), "console"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			mac := fmt.Sprintf("52:54:00:77:01:%02x", i)
			begun := time.Now()
			vm := start(t, out, "ip", "netns", "exec", ns, "qemu-system-x86_64", "-accel", "tcg", "-machine", "pc", "-cpu", "qemu64",
				"-m", "512", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
				"-kernel", kernel, "-initrd", initrd,
				"-append", "console=ttyS0 quiet no_timer_check norandmaps GOMAXPROCS=2 automatic=method:ka,interface:eth7,network:dhcp kamethod node_id=one BOOTIF=01-"+strings.ReplaceAll(mac, ":", "-"),
				"-netdev", fmt.Sprintf("tap,id=n0,ifname=tap%d,script=no,downscript=no", i), "-device", card+",netdev=n0,romfile=,mac="+mac)
			onConsole(t, out.Name(), 8*time.Minute, driver[card], `kernel parameter "node_id=one"`, "kamethod stage 1: lease 10.77.0.1", " on eth0 from 10.77.0.1")
			t.Logf("lease after %v", time.Since(begun).Round(100*time.Millisecond))
			if i == 0 { // once is enough: it takes the better part of a minute
				givesUp(t, vm, out.Name())
			}
		})
	}
}

// givesUp waits for the manual's sentence, five times, and for the reboot.
func givesUp(t *testing.T, vm *exec.Cmd, path string) {
	t.Helper()
	text := onConsole(t, path, 8*time.Minute, "no KA server after 5 tries, reboot in 10s")
	if n := strings.Count(text, status.NoServer+"\r\n"); n != 5 {
		t.Errorf("said it %d times:\n%s", n, text)
	}
	ended(t, vm, path)
}

// ended waits for the reboot.
func ended(t *testing.T, vm *exec.Cmd, path string) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- vm.Wait() }() // -no-reboot: QEMU ends where the machine would start again
	select {
	case <-ended:
	case <-time.After(5 * time.Minute):
		text, _ := os.ReadFile(path)
		t.Errorf("no reboot:\n%s", text)
	}
}
