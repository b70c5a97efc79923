package diskless

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/kamethod/kamethod/cmds/node/internal/nic"
	"github.com/kamethod/kamethod/golden/wire"
)

// Self is who a machine becomes.
type Self struct {
	wire.Run
	Lease      *nic.Lease
	ResolvConf string // the file that the lease's name servers are in
	RunDir     string // what will be /run of the new root
	Say        func(format string, args ...any)
}

// Become makes the new root a machine of its own, and gives its public ssh
// host keys.
func (r *Root) Become(ctx context.Context, s Self) (hostKeys []string, err error) {
	in, err := openInside(r.NewRoot)
	if err != nil {
		return nil, err
	}
	defer in.close()
	for _, step := range []struct {
		what string
		do   func(*inside) error
	}{
		{"leave the disks alone", s.noDisks},
		{"give it its name", s.names},
		{"give it its machine-id", s.machineID},
		{"hand the network over", s.network},
		{"write the files rendered for it", s.files},
	} {
		if err := step.do(in); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return s.hostKeys(ctx, r.NewRoot, in)
}

// names: /etc/hosts is among the rendered files.
func (s *Self) names(in *inside) error {
	if s.Hostname != "" {
		if err := in.write("/etc/hostname", []byte(s.Hostname+"\n"), 0o644); err != nil {
			return err
		}
	}
	return in.write("/etc/node_id", []byte(strconv.Itoa(s.NodeID)+"\n"), 0o644)
}

// machineID: as machine-id(5) wants it, 32 digits. D-Bus has a copy where
// there is no systemd.
func (s *Self) machineID(in *inside) error {
	var b [16]byte
	rand.Read(b[:])
	text := []byte(hex.EncodeToString(b[:]) + "\n")
	if in.has("/var/lib/dbus") {
		if err := in.write("/var/lib/dbus/machine-id", text, 0o444); err != nil {
			return err
		}
	}
	return in.write("/etc/machine-id", text, 0o444)
}

// files are golden's word, but a path is looked at all the same.
func (s *Self) files(in *inside) error {
	if len(s.Files) > wire.MaxRunFiles {
		return fmt.Errorf("%d of them, at most %d", len(s.Files), wire.MaxRunFiles)
	}
	for _, f := range s.Files {
		if len(f.Content) > wire.MaxRunFile {
			return fmt.Errorf("%s has %d bytes, at most %d", f.Path, len(f.Content), wire.MaxRunFile)
		}
		if err := in.write(f.Path, f.Content, os.FileMode(f.Mode)); err != nil {
			return err
		}
	}
	return nil
}

// foreign are units and rules that look for file systems, arrays and volumes
// on disks, and use what they find. /run goes before /usr/lib, and an empty
// file there is nothing to do (systemd.generator(7), udev(7)).
func foreign() []string {
	return []string{
		"systemd/system-generators/systemd-gpt-auto-generator",
		"udev/rules.d/64-md-raid-assembly.rules", "udev/rules.d/63-md-raid-arrays.rules",
		"udev/rules.d/69-lvm.rules", "udev/rules.d/69-dm-lvm.rules", "udev/rules.d/69-dm-lvm-metad.rules",
	}
}

// noDisks: a root that was a machine's names that machine's disks, and this
// machine's may be called so too.
func (s *Self) noDisks(in *inside) error {
	run, err := openInside(s.RunDir)
	if err != nil {
		return err
	}
	defer run.close()
	for _, name := range foreign() {
		if err := run.write("/"+name, nil, 0o644); err != nil {
			return err
		}
	}
	for _, table := range []string{"/etc/fstab", "/etc/crypttab"} {
		old, err := in.read(table)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		text, left := withoutDisks(string(old), table == "/etc/crypttab")
		for _, line := range left {
			s.Say("%s: not here, it is of a disk: %s", table, line)
		}
		if len(left) == 0 {
			continue
		}
		if err := in.write(table, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// withoutDisks makes comments of the lines of fstab(5) that are of block
// devices, by whichever name, or of the root, which is mounted; all: of every
// line.
func withoutDisks(text string, all bool) (kept string, left []string) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || !all && !ofDisk(f) {
			b.WriteString(line)
			continue
		}
		left = append(left, strings.Join(f, " "))
		b.WriteString("# diskless: " + line)
	}
	return b.String(), left
}

func ofDisk(f []string) bool {
	for _, p := range []string{"/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID=", "ZFS="} {
		if strings.HasPrefix(strings.ToUpper(strings.Trim(f[0], `"`)), p) {
			return true
		}
	}
	return path.Clean(f[1]) == "/" || len(f) > 2 && (f[2] == "btrfs" || f[2] == "zfs")
}
