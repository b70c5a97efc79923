package images

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/vmlab"
)

// The network's own servers stay: dnsmasq gives the addresses, or ISC dhcpd
// and tftpd-hpa do all, by the files of golden-serve config and a copy of
// images/tftp. Nobody says yes: the machine gets as far as stage 2, and not a
// byte of its disk may be written.
//
//	dnsmasq | dhcpd and in.tftpd    ┐
//	golden-serve --dhcp proxy | off ┴─ br0 ─ node
func TestBesideForeignServers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"proxy", "off"} {
		t.Run("dhcp="+mode, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
			defer cancel()
			lab, err := vmlab.New(ctx, vmlab.Config{Dir: dir, Accel: os.Getenv("ACCEL")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { lab.Close() })
			if mode == "off" {
				const nodes = "- {mac: 52:54:00:77:00:01, name: alpha, address: 10.77.0.50/24, node_id: 5, append: " + vmlab.KernelWords + "}\n"
				startOwnServers(t, lab, bin, top, nodes)
			} else {
				foreign, err := lab.Start(vmlab.ProcessSpec{Name: "dnsmasq", Args: []string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0",
					"--interface=" + vmlab.Bridge, "--bind-interfaces", "--dhcp-range=10.77.0.100,10.77.0.120,1h", "--dhcp-leasefile=" + filepath.Join(dir, "leases"),
					"--user=root", "--no-ping", "--dhcp-authoritative"}})
				if err != nil {
					t.Fatal(err)
				}
				waitForLine(t, foreign.Log, "IP range") // it has its ports then
			}
			g, err := lab.Start(vmlab.ProcessSpec{Name: "golden-serve", Dir: top, Env: []string{"KAMETHOD_STATE=" + filepath.Join(dir, "state")},
				Args: []string{filepath.Join(bin, "golden-serve"), "-n", "1", "--interface", vmlab.Bridge, "--dhcp", mode,
					"--quiet", "60s", "--root", smallRoot(t, dir), "-p", "sda", filepath.Join(dir, "desc")}})
			if err != nil {
				t.Fatal(err)
			}
			disk := filepath.Join(dir, "disk.img")
			m, err := lab.Power(ctx, vmlab.Spec{Name: "node", MAC: "52:54:00:77:00:01", Disk: disk, DiskSize: 1 << 30})
			if err != nil {
				t.Fatal(err)
			}
			err = g.Wait(ctx) // it asks, and there is nobody to answer
			log, _ := os.ReadFile(g.Log)
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Fatalf("golden-serve: %v, want exit status 2:\n%s\nnode:\n%s", err, log, m.Console.Tail(30))
			}
			for _, want := range []string{"WILL BE ERASED", "52:54:00:77:00:01", "vda 1.1 GB", "no disk was touched"} {
				if !strings.Contains(string(log), want) {
					t.Errorf("golden-serve does not say %q:\n%s", want, log)
				}
			}
			if cmdline := m.Console.Tail(10000); mode == "off" && !strings.Contains(strings.Join(strings.Fields(cmdline), " "), "node_id=5") {
				t.Errorf("the node wasn't told its node_id:\n%s", cmdline)
			}
			if mode == "off" && !strings.Contains(string(log), "10.77.0.50") {
				t.Errorf("the node hasn't the address of the nodes file:\n%s", log)
			}
			m.Kill()
			var st syscall.Stat_t
			if err := syscall.Stat(disk, &st); err != nil || st.Blocks != 0 {
				t.Errorf("%d blocks of the disk were written (%v), want none", st.Blocks, err)
			}
		})
	}
}

// waitForLine waits until a program's log has a text.
func waitForLine(t *testing.T, log, text string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if b, _ := os.ReadFile(log); strings.Contains(string(b), text) {
			return
		}
	}
	t.Fatalf("no %q in %s within 2 minutes", text, log)
}

// smallRoot is enough of a root to be offered.
func smallRoot(t *testing.T, dir string) string {
	t.Helper()
	writeAll(t, dir, map[string]string{
		"desc": "linux fill\n", "root/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", "root/usr/bin/true": "", "root/sbin/init": "",
		"root/usr/lib/grub/i386-pc/modinfo.sh": "", "root/boot/vmlinuz": "",
	})
	return filepath.Join(dir, "root")
}

func writeAll(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
