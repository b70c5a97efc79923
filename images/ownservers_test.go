package images

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

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

// ownServers are ISC's DHCP server and tftpd-hpa in a lab, with the files that
// golden-serve config writes for them.
type ownServers struct {
	lab            *vmlab.Lab
	bin, dir, root string // root: of the TFTP server
}

// startOwnServers does what docs/own-servers.md tells the administrator.
func startOwnServers(t *testing.T, lab *vmlab.Lab, bin, top, nodes string) *ownServers {
	t.Helper()
	for _, p := range []string{"dhcpd", "in.tftpd", "ss"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%v: scripts/setup.sh installs it", err)
		}
	}
	dir, err := os.MkdirTemp("", "ownservers-") // in.tftpd isn't root, and t.TempDir is for root alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &ownServers{lab: lab, bin: bin, dir: dir, root: filepath.Join(dir, "tftp")}
	if out, err := exec.Command("cp", "-a", filepath.Join(top, "images/tftp"), s.root).CombinedOutput(); err != nil {
		t.Fatalf("copy the TFTP tree: %v: %s", err, out)
	}
	if err := s.configure(nodes); err != nil {
		t.Fatal(err)
	}
	leases := filepath.Join(dir, "leases")
	if err := os.WriteFile(leases, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"dhcpd": {"dhcpd", "-4", "-f", "-d", "-cf", filepath.Join(dir, "dhcpd.conf"), "-lf", leases, "-pf", filepath.Join(dir, "pid"), vmlab.Bridge},
		"tftpd": {"sh", "-c", `. "$1"; exec in.tftpd --listen --foreground --user "$TFTP_USERNAME" --address "$TFTP_ADDRESS" $TFTP_OPTIONS "$TFTP_DIRECTORY"`,
			"sh", filepath.Join(dir, "default/tftpd-hpa")}, // as /etc/init.d/tftpd-hpa does
	} {
		p, err := lab.Start(vmlab.ProcessSpec{Name: name, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		port := map[string]string{"dhcpd": ":67", "tftpd": ":69"}[name]
		for end := time.Now().Add(time.Minute); !s.listens(port); time.Sleep(100 * time.Millisecond) {
			if log, _ := os.ReadFile(p.Log); time.Now().After(end) {
				t.Fatalf("%s isn't up:\n%s", name, log)
			}
		}
	}
	return s
}

func (s *ownServers) listens(port string) bool {
	out, err := exec.Command("ip", "netns", "exec", s.lab.Name, "ss", "-H", "-u", "-l", "-n", "sport", "=", port).Output()
	return err == nil && len(bytes.TrimSpace(out)) > 0
}

// configure writes the files anew: an administrator's two lines.
func (s *ownServers) configure(nodes string) error {
	file := filepath.Join(s.dir, "nodes.yaml")
	if err := os.WriteFile(file, []byte(nodes), 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{{"dhcpd", "tftpd-hpa", "--out", s.dir}, {"pxelinux", "--out", s.root}} {
		args = append([]string{"netns", "exec", s.lab.Name, filepath.Join(s.bin, "golden-serve"), "config"}, args...)
		args = append(args, "--interface", vmlab.Bridge, "--tftp-root", s.root, "--nodes-file", file)
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("golden-serve config: %w: %s", err, out)
		}
	}
	return nil
}

// TestOwnServers clones a machine that ISC's DHCP server and tftpd-hpa boot, in
// place of golden-serve's own servers. When it is there, the administrator has
// it boot its disk from then on, by a word in the nodes file. `make vmtest`.
func TestOwnServers(t *testing.T) {
	if os.Getenv("VMTEST") == "" && os.Getenv("CELL") != "ownservers" {
		t.Skip("make vmtest runs it: VMTEST=1 or CELL=ownservers")
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	const node = "- {mac: 52:54:00:77:00:01, name: alpha, address: 10.77.0.50/24, node_id: 7, append: " + vmlab.KernelWords + ", label: %s}\n"
	var s *ownServers
	switched := make(chan error, 1)
	result := playClone(t, rehearsal.Config{
		Kind: goldenroot.Cloud, Nodes: 1, Serve: []string{"--dhcp", "off"},
		Lab: func(ctx context.Context, lab *vmlab.Lab) error {
			s = startOwnServers(t, lab, bin, top, fmt.Sprintf(node, "kamethod"))
			go func() {
				if err := waitForText(ctx, filepath.Join(lab.Dir, "golden-serve.log"), "node is here"); err != nil {
					switched <- err
					return
				}
				switched <- s.configure(fmt.Sprintf(node, "local"))
			}()
			return nil
		},
	})
	if err := <-switched; err != nil {
		t.Error(err)
	}
	if n := result.Nodes[0]; n.Serve.Address != "10.77.0.50" {
		t.Errorf("the node's address is %s", n.Serve.Address)
	}
	log, err := os.ReadFile(filepath.Join(result.Work, "golden-serve.log"))
	if err != nil || !strings.Contains(string(log), "the boot files are left to the server that is here") {
		t.Errorf("%v, golden-serve had boot servers of its own:\n%s", err, log)
	}
	for file, want := range map[string]string{filepath.Join(result.Work, "dhcpd.log"): "DHCPACK on 10.77.0.50", filepath.Join(s.root, "pxelinux.cfg/01-52-54-00-77-00-01.sav"): "node_id=7"} {
		if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v, no %q", file, err, want)
		}
	}
}

// waitForText waits until a file has a text.
func waitForText(ctx context.Context, file, text string) error {
	for {
		if b, _ := os.ReadFile(file); strings.Contains(string(b), text) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no %q in %s: %w", text, file, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
