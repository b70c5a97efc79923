package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden"
)

// asMain has the test binary be golden-serve itself.
const asMain = "GOLDEN_SERVE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// office is a golden machine and one host, each in a network namespace.
//
//	golden 10.78.0.1 ── veth ── host 10.78.0.11
type office struct {
	t                 *testing.T
	golden, host, dir string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	o := &office{t: t, golden: fmt.Sprintf("go%d", os.Getpid()), host: fmt.Sprintf("gh%d", os.Getpid()), dir: t.TempDir()}
	for _, ns := range []string{o.golden, o.host} {
		o.ip("netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		o.ip("-n", ns, "link", "set", "lo", "up")
	}
	o.ip("-n", o.golden, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", o.host)
	for ns, addr := range map[string]string{o.golden: "10.78.0.1/24", o.host: "10.78.0.11/24"} {
		o.ip("-n", ns, "addr", "add", addr, "brd", "+", "dev", "eth0")
		o.ip("-n", ns, "link", "set", "eth0", "up")
	}
	for name, text := range map[string]string{
		"desc": "linux 1000\nswap fill\n", "root/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", "root/etc/hostname": "golden\n",
		"root/usr/bin/true": "", "root/sbin/init": "", "root/usr/lib/grub/i386-pc/modinfo.sh": "", "root/boot/vmlinuz": "",
		"images/rescue.sqfs": "x", "images/tftp/pxelinux.0": "x",
		"images/tftp/ldlinux.c32": "x", "images/tftp/images/vmlinuz": "x", "images/tftp/images/all.rdz": "x",
	} {
		path := filepath.Join(o.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o.run(2, "status") // nobody answers; golden's key is made
	return o
}

func (o *office) ip(args ...string) {
	o.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		o.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// command is golden-serve on the golden machine.
func (o *office) command(args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", o.golden, os.Args[0]}, args...)...)
	c.Dir = o.dir
	c.Env = append(os.Environ(), asMain+"=1", "KAMETHOD_ETC="+filepath.Join(o.dir, "etc"), "KAMETHOD_STATE="+filepath.Join(o.dir, "state"))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// run runs a verb, and wants this exit status.
func (o *office) run(status int, args ...string) (stdout, stderr string) {
	o.t.Helper()
	var out, errs bytes.Buffer
	c := o.command(args...)
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if got := c.ProcessState.ExitCode(); got != status {
		o.t.Fatalf("golden-serve %s: %v, want exit status %d\n%s%s", strings.Join(args, " "), err, status, &out, &errs)
	}
	return out.String(), errs.String()
}

type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// clone starts a session that waits for machines.
func (o *office) clone(more ...string) (c *exec.Cmd, log *locked) {
	o.t.Helper()
	log = &locked{}
	c = o.command(append([]string{"clone", "-n", "2", "--images", "images", "--yes", "--dhcp", "off", "--root", "root", "-p", "sda", "desc", "-r", "none"}, more...)...)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if o.t.Failed() {
			o.t.Logf("golden-serve clone:\n%s", log)
		}
	})
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if err := o.command("status").Run(); err == nil {
			return c, log
		}
		if time.Now().After(end) {
			o.t.Fatal("golden-serve clone doesn't answer")
		}
	}
}

// boots is what a machine hears when it boots from the network. The host is
// that machine for the moment: nobody hears what is for another.
func (o *office) boots(mac string) string {
	o.t.Helper()
	o.ip("-n", o.host, "link", "set", "eth0", "address", mac)
	o.ip("-n", o.golden, "neigh", "flush", "dev", "eth0")
	out, err := exec.Command("ip", "netns", "exec", o.host, "curl", "-sS", "--max-time", "30",
		"http://10.78.0.1:8069/pxelinux.cfg/01-"+strings.ReplaceAll(mac, ":", "-")).CombinedOutput()
	if err != nil {
		o.t.Fatalf("curl: %v: %s", err, out)
	}
	return string(out)
}

func (o *office) wantImage(mac string, want bool) {
	o.t.Helper()
	if text := o.boots(mac); strings.Contains(text, "images/all.rdz") != want {
		o.t.Errorf("%s hears, and the image is wanted: %v:\n%s", mac, want, text)
	}
}

// wantState waits until the list says so: that a configuration was sent is
// told when it was.
func (o *office) wantState(mac, state, source string) golden.Machine {
	o.t.Helper()
	var n golden.Nodes
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, _ := o.run(0, "nodes", "-o", "json")
		n = golden.Nodes{}
		if err := json.Unmarshal([]byte(out), &n); err != nil {
			o.t.Fatal(err)
		}
		for _, m := range n.Machines {
			if m.MAC == mac && string(m.State) == state && n.Source == source {
				return m
			}
		}
		if time.Now().After(end) {
			o.t.Fatalf("%s isn't %s by the %s: %+v", mac, state, source, n)
		}
	}
}

// The verbs against a golden-serve that runs, that was killed, that was started
// again, and that has ended.
func TestNodesArmDisarm(t *testing.T) {
	o := newOffice(t)
	const one, two, three, four = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03", "52:54:00:00:00:04"
	if _, say := o.run(2, "nodes"); !strings.Contains(say, "no such file") {
		t.Errorf("nodes of nobody says %q", say)
	}
	c, _ := o.clone()
	o.wantImage(one, true)
	if m := o.wantState(one, "booting", "running"); m.Address != "10.78.0.11" || m.By != "coming" || m.Until.IsZero() {
		t.Errorf("the list has %+v", m)
	}
	o.wantImage(two, true)
	o.wantImage(three, false) // there is no room
	if out, _ := o.run(0, "arm", strings.ToUpper(three)); !strings.Contains(out, three+"  armed, until") {
		t.Errorf("arm says:\n%s", out)
	}
	o.wantImage(three, true)
	for _, bad := range []struct {
		args []string
		want string
	}{
		{[]string{"arm", four, "nonsense"}, `"nonsense"`}, {[]string{"arm", "ff:ff:ff:ff:ff:ff"}, "no single machine"}, {[]string{"arm"}, "requires at least 1 arg"},
		{[]string{"disarm"}, "--all"}, {[]string{"disarm", "--all", one}, "--all"}, {[]string{"nodes", "-o", "xml"}, `"xml"`},
		{[]string{"nodes", "-s", "other"}, "no session"}, {[]string{"disarm", "-s", "other", one}, "no session"},
	} {
		if _, say := o.run(2, bad.args...); !strings.Contains(say, bad.want) {
			t.Errorf("%v says %q, want %q", bad.args, say, bad.want)
		}
	}
	o.wantImage(four, false)
	o.run(0, "disarm", one)
	o.wantImage(one, false)
	if out, _ := o.run(0, "nodes"); !strings.Contains(out, one+"  seen, disarmed") || !strings.Contains(out, three+"  booting, until") {
		t.Errorf("nodes says:\n%s", out)
	}
	if err := c.Process.Kill(); err != nil { // ip netns exec has become golden-serve
		t.Fatal(err)
	}
	c.Wait()
	o.wantState(three, "booting", "journal")
	if _, say := o.run(0, "nodes"); !strings.Contains(say, "no golden-serve of session kamethod answers") {
		t.Errorf("nodes of a journal says %q", say)
	}
	o.run(2, "arm", one)
	c, log := o.clone()
	if !strings.Contains(log.String(), "resuming session") {
		t.Error("the session isn't taken up: the test shows nothing")
	}
	o.wantImage(one, false)
	o.wantImage(two, true)
	o.wantImage(three, true)
	o.wantImage(four, true) // in the place of the one that was disarmed
	o.run(0, "disarm", "--all")
	for _, mac := range []string{one, two, three, four} {
		o.wantImage(mac, false)
	}
	o.run(0, "arm", one, two)
	o.wantImage(one, true)
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	o.wantState(two, "armed", "journal")
}

// The verbs tell their exit status, and no other verb's.
func TestVerbsHelp(t *testing.T) {
	for verb, want := range map[string]string{"nodes": "list was printed", "arm": "none of them is", "disarm": "none of them is"} {
		c, _, err := newCommand().Find([]string{verb})
		if err != nil || strings.Count(c.Long, "EXIT STATUS") != 1 || !strings.Contains(c.Long, want) {
			t.Errorf("%s: %v, %s", verb, err, c.Long)
		}
	}
}
