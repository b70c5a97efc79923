// Package goldenroot makes the root file system that the rehearsal clones: a
// whole Debian from scripts/golden-root.sh, and in it a tree of everything
// that copying programs are known to lose. It is not part of kamethod: a real
// golden node was installed by a person.
//
//	mmdebstrap ─▶ .cache/golden-KIND-HASH.tar ─▶ DIR ◀─ odd files in /srv/odd, /home/odd
package goldenroot

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Kind says which Debian.
type Kind string

// Kinds.
const (
	Full  Kind = "full"  // the kernel for real hardware
	Cloud Kind = "cloud" // the small kernel for virtual machines
	Lab   Kind = "lab"   // Full's kernel, and the programs of all file systems, LVM, RAID and LUKS
)

// MachineID and the other words that golden-root.sh writes into the root and
// no clone may have.
const (
	MachineID = "5f4dcc3b5aa765d61d8327deb882cf99"
	NICAddr   = "02:00:00:00:00:99"
	LeaseAddr = "192.0.2.99"
	Hostname  = "golden"
)

// Make makes the root in the new directory dir. top is the repository's.
func Make(ctx context.Context, top string, kind Kind, dir string, log io.Writer) error {
	cmd := exec.CommandContext(ctx, filepath.Join(top, "scripts/golden-root.sh"), string(kind), dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The script's children must end with it when the caller gives up.
	cmd.WaitDelay = 30 * time.Second
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make a golden root in %s: %w", dir, err)
	}
	for _, at := range []string{"srv/odd", "home/odd"} {
		if err := AddOdd(filepath.Join(dir, at)); err != nil {
			return err
		}
	}
	if err := addPatience(dir); err != nil {
		return err
	}
	return addScratch(filepath.Join(dir, Scratch))
}

// addPatience has systemd wait for disks longer than its 90 seconds
// (systemd-system.conf(5)): a machine that is emulated on a busy host finds them
// later, and would stop in its emergency mode.
func addPatience(dir string) error {
	conf := filepath.Join(dir, "etc/systemd/system.conf.d/lab.conf")
	if err := os.MkdirAll(filepath.Dir(conf), 0o755); err != nil {
		return err
	}
	return os.WriteFile(conf, []byte("[Manager]\nDefaultDeviceTimeoutSec=15min\n"), 0o644)
}

// Scratch is a directory that clones get empty (golden-serve -x), with its
// owner and mode.
const Scratch = "/srv/scratch"

func addScratch(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		return err
	}
	for _, name := range []string{"large", "sub/small"} {
		if err := os.WriteFile(filepath.Join(dir, name), noise(3<<20), 0o600); err != nil {
			return err
		}
	}
	if err := os.Chown(dir, 1000, 2000); err != nil {
		return err
	}
	return os.Chmod(dir, os.ModeSetgid|0o770) // after chown, which clears set-gid
}

// Remove removes a root, immutable files and all.
func Remove(dir string) error {
	for _, pattern := range []string{"srv/odd", "home/odd"} {
		clearFlags(filepath.Join(dir, pattern))
	}
	return os.RemoveAll(dir)
}
