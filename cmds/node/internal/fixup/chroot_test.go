package fixup

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
	"golang.org/x/sys/unix"
)

// hostRoot is a clone whose programs are this machine's own: /usr, mounted
// read-only.
func hostRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("chroot and mount are root's")
	}
	root := t.TempDir()
	plant(t, root, files)
	plant(t, root, map[string]string{
		"usr/": "", "dev/": "", "proc/": "", "sys/": "", "run/": "", "tmp/": "", "root/": "",
		"bin -> usr/bin": "", "sbin -> usr/sbin": "", "lib -> usr/lib": "", "lib64 -> usr/lib64": "",
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
	})
	usr := filepath.Join(root, "usr")
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY} {
		if err := unix.Mount("/usr", usr, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(usr, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return root
}

// hostClone has no file systems, for there is no disk.
func hostClone(t *testing.T, files map[string]string, log *slog.Logger) *clone {
	root := hostRoot(t, files)
	return newTestClone(t, root, nil, func(e *Env) {
		e.Plan, e.Disks, e.Log = wire.Plan{Golden: e.Plan.Golden}, wire.DiskResult{}, log
	})
}

func mountsIn(t *testing.T, dir string) (n int) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), " "+dir+"/")
}

func TestChrootRun(t *testing.T) {
	var log bytes.Buffer
	c := hostClone(t, map[string]string{"run/here": "clone's"}, slog.New(slog.NewTextHandler(&log, nil)))
	root, before := c.tree.path, mountsIn(t, c.tree.path)
	for _, tt := range []struct {
		script, want string // want: in the log, or in the error
		fails        bool
	}{
		{"echo one; echo two >&2", "msg=two", false},
		{"env | sort | tr '\\n' ' '", "DEBIAN_FRONTEND=noninteractive HOME=/root LC_ALL=C", false},
		{"read x || echo no input", "no input", false},
		{"test -e /run/here || echo run is empty", "run is empty", false},
		{"echo x >/dev/null && test -c /dev/urandom && test -e /proc/self/exe && test -d /sys/class && echo all there", "all there", false},
		{"ls /dev | tr '\\n' ' '", "fd full null random stderr", false},
		{"echo because >&2; exit 3", "exit status 3; it said:\n\tbecause", true},
		{"kill -9 $$", "signal: killed", true},
	} {
		err := c.chroot.run(t.Context(), "sh", "-c", tt.script)
		switch {
		case tt.fails && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.script, err, tt.want)
		case !tt.fails && (err != nil || !strings.Contains(log.String(), tt.want)):
			t.Errorf("%s: %v; no %q in\n%s", tt.script, err, tt.want, log.String())
		}
		log.Reset()
	}
	if err := c.chroot.run(t.Context(), "no-such-program"); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("a program that isn't there: %v", err)
	}
	if n := mountsIn(t, root); n != before+4 {
		t.Errorf("%d mounts while open, want %d", n, before+4)
	}
	if err := c.chroot.close(); err != nil {
		t.Error(err)
	}
	if n := mountsIn(t, root); n != before {
		t.Errorf("%d mounts after close, want %d", n, before)
	}
	if b, err := os.ReadFile(filepath.Join(root, "run/here")); err != nil || string(b) != "clone's" {
		t.Errorf("the clone's own /run: %q, %v", b, err)
	}
}

// TestChrootWontOpen: a clone whose /sys is a file gets no mount at all, and
// keeps the keys that can't be replaced.
func TestChrootWontOpen(t *testing.T) {
	c := hostClone(t, map[string]string{"etc/ssh/ssh_host_rsa_key": "golden"}, slog.New(slog.DiscardHandler))
	before := mountsIn(t, c.tree.path)
	if err := os.Remove(filepath.Join(c.tree.path, "sys")); err != nil {
		t.Fatal(err)
	}
	plant(t, c.tree.path, map[string]string{"sys": "a file"})
	for range 2 {
		if err := c.chroot.run(t.Context(), "true"); err == nil || !strings.Contains(err.Error(), "sys") {
			t.Errorf("got %v", err)
		}
		if n := mountsIn(t, c.tree.path); n != before {
			t.Errorf("%d mounts, want %d", n, before)
		}
	}
	if err := fixHostKeys(t.Context(), c, &StepReport{}); err == nil || !c.tree.isFile("/etc/ssh/ssh_host_rsa_key") {
		t.Errorf("the keys: %v", err)
	}
}

// TestChrootEnds: a program that hangs, and what it started, is gone when its
// time is up, and the mounts are too.
func TestChrootEnds(t *testing.T) {
	c := hostClone(t, nil, slog.New(slog.DiscardHandler))
	before := mountsIn(t, c.tree.path)
	late := errors.New("too late")
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	go func() { // ends when the program runs, or never did in minutes
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if b, err := os.ReadFile(filepath.Join(c.tree.path, "tmp/pid")); err == nil && strings.HasSuffix(string(b), "\n") {
				break
			}
		}
		stop(late)
	}()
	// Longer than that, so that only its end can be the cause.
	err := c.chroot.run(ctx, "sh", "-c", "echo $$ >/tmp/pid; cd /dev; sleep 3000 & sleep 3000")
	if !errors.Is(err, late) {
		t.Errorf("got %v, want %v", err, late)
	}
	if pid := c.tree.firstLine("/tmp/pid"); pid == "" {
		t.Error("the program never ran")
	} else if stillThere(pid) {
		t.Errorf("process group %s lives on", pid)
	}
	if err := c.chroot.close(); err != nil {
		t.Error(err)
	}
	if n := mountsIn(t, c.tree.path); n != before {
		t.Errorf("%d mounts after close, want %d", n, before)
	}
}

// stillThere looks for a process of the group that isn't dead yet.
func stillThere(group string) bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ") // state ppid pgrp, proc(5)
		if f := strings.Fields(rest); len(f) > 2 && f[2] == group && f[0] != "Z" && f[0] != "X" {
			return true
		}
	}
	return false
}

// TestChrootBusy: a daemon that left its process group still holds /dev; the
// mount goes from the clone all the same.
func TestChrootBusy(t *testing.T) {
	c := hostClone(t, nil, slog.New(slog.DiscardHandler))
	before := mountsIn(t, c.tree.path)
	err := c.chroot.run(t.Context(), "sh", "-c", "cd /dev && setsid sleep 20 >/dev/null 2>&1 & sleep 0.5")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.chroot.close(); err != nil {
		t.Error(err)
	}
	if n := mountsIn(t, c.tree.path); n != before {
		t.Errorf("%d mounts after close, want %d", n, before)
	}
}

// TestHostKeys makes real ones.
func TestHostKeys(t *testing.T) {
	if _, err := os.Stat("/usr/bin/ssh-keygen"); err != nil {
		t.Skip("no ssh-keygen on this machine: package openssh-client")
	}
	c := hostClone(t, map[string]string{
		"etc/ssh/ssh_host_ed25519_key": "golden", "etc/ssh/ssh_host_ed25519_key.pub": "golden",
		"etc/ssh/ssh_host_ecdsa_key": "golden", "etc/ssh/ssh_host_ecdsa_key.pub": "golden",
		"etc/ssh/ssh_host_rot13_key": "golden", "etc/ssh/ssh_host_rot13_key.pub": "golden",
		"etc/ssh/.kamethod_ed25519": "of an interrupted run",
	}, slog.New(slog.DiscardHandler))
	var rep StepReport
	if err := fixHostKeys(t.Context(), c, &rep); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range c.tree.list("/etc/ssh") {
		names = append(names, e.Name())
		if c.tree.firstLine("/etc/ssh/"+e.Name()) == "golden" {
			t.Errorf("%s is golden's", e.Name())
		}
	}
	if got, want := strings.Join(names, " "), "ssh_host_ecdsa_key ssh_host_ecdsa_key.pub ssh_host_ed25519_key ssh_host_ed25519_key.pub"; got != want {
		t.Errorf("files %q, want %q", got, want)
	}
	if fi, err := c.tree.stat("/etc/ssh/ssh_host_ed25519_key"); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	k := c.report.HostKeys
	if len(k) != 2 || !strings.HasPrefix(k[1], "ssh-ed25519 ") || !strings.HasSuffix(k[1], " root@node7") {
		t.Errorf("keys %q", k)
	}
	if len(rep.Warnings) != 1 || !strings.Contains(rep.Warnings[0], "rot13") {
		t.Errorf("warnings %q", rep.Warnings)
	}
}

// TestRunStops: a failing step ends the run, is the last in the report, and
// leaves no mount.
func TestRunStops(t *testing.T) {
	root := hostRoot(t, map[string]string{"etc/ssh/ssh_host_ed25519_key": "golden", "boot/vmlinuz-6.1": "no modules"})
	before := mountsIn(t, root)
	var seen []string
	env := Env{Root: root, Plan: wire.Plan{Loader: wire.Loader{Kind: "grub"}}, Number: 3, Progress: func(s string) { seen = append(seen, s) }}
	rep, err := Run(t.Context(), env)
	if err == nil || !strings.HasPrefix(err.Error(), "fix-up step initrd: ") {
		t.Errorf("got %v", err)
	}
	if n := len(rep.Steps); n != len(seen) || rep.Steps[n-1].Name != "initrd" {
		t.Errorf("steps %+v, seen %q", rep.Steps, seen)
	}
	if n := mountsIn(t, root); n != before {
		t.Errorf("%d mounts are left", n-before)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("golden says stop")
	stop(why)
	if rep, err := Run(ctx, env); !errors.Is(err, why) || len(rep.Steps) > 0 {
		t.Errorf("a run that was stopped: %v, %+v", err, rep.Steps)
	}
	env.Number = 0
	if _, err := Run(t.Context(), env); err == nil {
		t.Error("took a node without number or name")
	}
	env.Number, env.Root = 1, filepath.Join(root, "none")
	if _, err := Run(t.Context(), env); err == nil {
		t.Error("took a root that isn't there")
	}
}
