package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/golden/wire"
)

// job has the test binary be a node: "agent", or "clone" and an agent.
const job = "AGENT_TEST_JOB"

// withKmsg has a node read this machine's kernel log.
const withKmsg = "AGENT_TEST_KMSG"

func TestMain(m *testing.M) {
	if os.Getenv(job) != "" {
		if err := beNode(); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		return
	}
	var err error
	if binDir, err = os.MkdirTemp("", "agent-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(binDir)
	os.Exit(status)
}

// binDir has the real programs; each is made once.
var binDir string

var programs = sync.OnceValue(func() error {
	for name, pkg := range map[string]string{"golden-serve": "../../../admin/golden-serve", "clone": "../clone"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(binDir, name), pkg).CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
})

// beNode goes through stage 1 as its init does, leaves the state that init
// leaves, and is an agent; or starts one, and the real clone program.
func beNode() error {
	dir, mac := os.Args[1], os.Args[2]
	if err := unix.Mount("none", "/sys", "tmpfs", 0, ""); err != nil { // this machine's disks are not the node's
		return fmt.Errorf("hide the disks: %w", err)
	}
	kmsg := os.Getenv(withKmsg)
	if kmsg == "" {
		if err := unix.Mount("/dev/null", "/dev/kmsg", "", unix.MS_BIND, ""); err != nil { // nor its kernel's log
			return fmt.Errorf("hide the kernel's log: %w", err)
		}
	}
	if err := hideDisks(); err != nil {
		return err
	}
	if err := os.Mkdir("/sys/block", 0o755); err != nil {
		return err
	}
	st := handover.State{Server: goldenAddr + ":30765", Session: join.DefaultSession, MAC: mac,
		KeyFile: filepath.Join(dir, "node.key"), PinFile: filepath.Join(dir, "../etc/golden.pub")}
	if err := st.Save(filepath.Join(dir, "state.json")); err != nil {
		return err
	}
	err := join.FetchImage(context.Background(), join.Config{
		Server: st.Server, Session: st.Session, PinFile: st.PinFile, KeyFile: st.KeyFile, Stage: wire.Stage1, MAC: mac, DataPort: 30764,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, filepath.Join(dir, "rescue.sqfs"), func(line string) { fmt.Fprintln(os.Stderr, line) })
	if err != nil {
		return err
	}
	os.Args = []string{"agent", "-state", filepath.Join(dir, "state.json"), "-kmsg", kmsg, "-v"}
	if os.Getenv(job) == "clone" {
		c := exec.Command(os.Getenv("AGENT_TEST_CLONE"), "-state", filepath.Join(dir, "state.json"), "-root", filepath.Join(dir, "disk"))
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := c.Start(); err != nil {
			return err
		}
	}
	main()
	return nil
}

// hideDisks puts nothing in the place of every block device, in this mount
// namespace: a node that is told to erase its disks finds none.
func hideDisks() error {
	return filepath.WalkDir("/dev", func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone meanwhile
		}
		if err != nil || e.Type()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
			return err
		}
		if err := unix.Mount("/dev/null", path, "", unix.MS_BIND, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("hide %s: %w", path, err)
		}
		return nil
	})
}

const goldenAddr = "10.79.0.1"

// lab is a golden machine and nodes, each in a network namespace of its own.
//
//	golden 10.79.0.1 ── bridge ──┬── node 1 10.79.0.11
//	                             └── node 2 10.79.0.12 …
type lab struct {
	t      *testing.T
	dir    string
	ns     string // the golden machine's; a node's has a number behind
	golden *exec.Cmd
	typed  *os.File // what is written here is typed on golden's terminal
	log    *locked
	nodes  []*labNode
}

type labNode struct {
	cmd *exec.Cmd
	log *locked
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

// waits are bounded by far more than they take on a busy machine.
const patience = 90 * time.Second

func newLab(t testing.TB, n int, what string, more ...string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	for _, p := range []string{"ip"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs ", p)
		}
	}
	l := &lab{dir: t.TempDir(), ns: fmt.Sprintf("ka%dx", os.Getpid()), log: &locked{}}
	l.t, _ = t.(*testing.T)
	l.network(t, n)
	l.furnish(t)
	l.startGolden(t, n, more...)
	for i := range n {
		l.startNode(t, i+1, what)
		if what == "clone" { // it has the number of its place
			l.until(t, "a node is here", func() bool { return strings.Contains(l.log.String(), fmt.Sprintf("node is here node=%d ", i+1)) })
		}
	}
	return l
}

// network makes all namespaces by two programs, not by hundreds.
func (l *lab) network(t testing.TB, n int) {
	t.Helper()
	var add, inside strings.Builder
	fmt.Fprintf(&add, "netns add %s\n", l.ns)
	fmt.Fprintf(&inside, "link set lo up\nlink add name br0 type bridge\naddr add %s/24 brd + dev br0\nlink set br0 up\n", goldenAddr)
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&add, "netns add %s%d\n", l.ns, i)
		fmt.Fprintf(&inside, "link add n%d type veth peer name eth0 address %s netns %s%d\nlink set n%d master br0 up\n", i, mac(i), l.ns, i, i)
	}
	batch := func(ns, text string) {
		c := exec.Command("ip", "-batch", "-")
		if ns != "" {
			c = exec.Command("ip", "-n", ns, "-batch", "-")
		}
		c.Stdin = strings.NewReader(text)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("ip -batch: %v: %s", err, out)
		}
	}
	t.Cleanup(func() {
		for i := 0; i <= n; i++ {
			name := l.ns
			if i > 0 {
				name += strconv.Itoa(i)
			}
			exec.Command("ip", "netns", "del", name).Run() // the last are not there if making them failed
		}
	})
	batch("", add.String())
	batch(l.ns, inside.String())
	for i := 1; i <= n; i++ {
		batch(l.ns+strconv.Itoa(i), fmt.Sprintf("link set lo up\naddr add 10.79.0.%d/24 brd + dev eth0\nlink set eth0 up\n", 10+i))
	}
}

func mac(i int) string { return fmt.Sprintf("52:54:00:79:00:%02x", i) }

func (l *lab) furnish(t testing.TB) {
	t.Helper()
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"desc": "linux 1000\nswap fill\n", "root/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", "root/etc/hostname": "golden\n",
		"root/usr/bin/true": "", "root/sbin/init": "", "root/usr/lib/grub/i386-pc/modinfo.sh": "", "root/boot/vmlinuz": "",
		"images/rescue.sqfs": "x", "images/tftp/pxelinux.0": "x",
		"images/tftp/ldlinux.c32": "x", "images/tftp/images/vmlinuz": "x", "images/tftp/images/all.rdz": "x",
	} {
		path := filepath.Join(l.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// command is golden-serve on the golden machine.
func (l *lab) command(args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", l.ns, filepath.Join(binDir, "golden-serve")}, args...)...)
	c.Dir = l.dir
	c.Env = append(os.Environ(), "KAMETHOD_ETC="+filepath.Join(l.dir, "etc"), "KAMETHOD_STATE="+filepath.Join(l.dir, "state"))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// run runs a verb, and wants this exit status.
func (l *lab) run(t testing.TB, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c := l.command(args...)
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if got := c.ProcessState.ExitCode(); got != status {
		t.Fatalf("golden-serve %s: %v, want exit status %d\n%.3000s%.3000s", strings.Join(args, " "), err, status, &out, &errs)
	}
	return out.String(), errs.String()
}

// startGolden starts it on a terminal: it shows the machines whose disks would
// be erased, and nobody there says yes.
func (l *lab) startGolden(t testing.TB, n int, more ...string) {
	t.Helper()
	master, slave := terminal(t)
	l.typed = master
	l.golden = l.command(append([]string{"clone", "-v", "-n", strconv.Itoa(n), "--images", "images", "--dhcp", "off", "--root", "root", "-p", "sda", "desc", "-r", "none"}, more...)...)
	l.golden.Stdin, l.golden.Stdout, l.golden.Stderr = slave, l.log, l.log
	if err := l.golden.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.golden.Process.Kill()
		l.golden.Wait()
		master.Close()
		slave.Close()
		if t.Failed() {
			t.Logf("golden-serve clone:\n%.20000s", l.log)
		}
	})
	l.until(t, "golden-serve answers", func() bool { return l.command("status").Run() == nil })
}

// terminal is a pair of pseudo-terminals.
func terminal(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func (l *lab) startNode(t testing.TB, i int, what string) {
	t.Helper()
	dir := filepath.Join(l.dir, fmt.Sprintf("n%d", i))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n := &labNode{log: &locked{}}
	n.cmd = exec.Command("ip", "netns", "exec", l.ns+strconv.Itoa(i), self, dir, mac(i))
	n.cmd.Env = append(os.Environ(), job+"="+what, "AGENT_TEST_CLONE="+filepath.Join(binDir, "clone"))
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.nodes = append(l.nodes, n)
	t.Cleanup(func() {
		n.cmd.Process.Kill()
		n.cmd.Wait()
		if t.Failed() && i <= 4 {
			t.Logf("node %d:\n%.5000s", i, n.log)
		}
	})
}

func (l *lab) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// ready waits until so many nodes run programs.
func (l *lab) ready(t testing.TB, n int) {
	t.Helper()
	l.until(t, fmt.Sprintf("%d nodes run programs", n), func() bool {
		out, err := l.command("exec", "all", "--", "echo", "here").Output()
		return err == nil && strings.Count(string(out), ": here\n") == n
	})
}

// processes counts the programs on all nodes whose command line has these
// words.
func processes(words string) (n int) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range list {
		b, err := os.ReadFile(name)
		if err == nil && strings.Contains(strings.ReplaceAll(string(b), "\x00", " "), words) && !strings.Contains(string(b), "golden-serve") {
			n++
		}
	}
	return n
}
