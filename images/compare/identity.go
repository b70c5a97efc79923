package compare

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Identity is what makes a machine this machine and no other.
type Identity map[string]string

// secrets are the files no two machines may share.
var secrets = []string{"/etc/machine-id", "/etc/hostname", "/etc/ssh/ssh_host_*_key", "/etc/ssh/ssh_host_*_key.pub"}

// ReadIdentity reads what must be unique under root.
func ReadIdentity(root string) (Identity, error) {
	id := Identity{}
	for _, pattern := range secrets {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			id[strings.TrimPrefix(name, root)] = string(bytes.TrimSpace(b))
		}
	}
	return id, nil
}

// Shared names what two machines have in common and shouldn't, and what one
// of them lacks. Two empty or "uninitialized" machine-ids are not shared:
// systemd gives each machine its own at its first boot (machine-id(5)).
func Shared(a, b Identity) []string {
	var out []string
	for name, value := range a {
		other, there := b[name]
		if !there {
			out = append(out, name+": one has it, the other not")
			continue
		}
		if value != other || name == "/etc/machine-id" && (value == "" || value == "uninitialized") {
			continue
		}
		out = append(out, name+": the same on both")
	}
	for name := range b {
		if _, there := a[name]; !there {
			out = append(out, name+": one has it, the other not")
		}
	}
	slices.Sort(out)
	return out
}

// Traces looks for words of the golden node's identity (its machine-id, its
// network card's address) in the clone's configuration and boot files.
func Traces(root string, words []string) ([]string, error) {
	var out []string
	for _, dir := range []string{"/etc", "/boot/grub", "/var/lib/dhcp", "/var/lib/dbus"} {
		err := filepath.WalkDir(root+dir, func(name string, d os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			for _, w := range words {
				if bytes.Contains(b, []byte(w)) {
					out = append(out, fmt.Sprintf("%s has golden's %s", strings.TrimPrefix(name, root), w))
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// FstabProblems lists the lines of the clone's fstab that name no partition of
// its disk, and the mount points that no line names.
func FstabProblems(root string, parts []Partition, mountPoints map[int]string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(root, "etc/fstab"))
	if err != nil {
		return nil, err
	}
	byUUID := map[string]Partition{}
	for _, p := range parts {
		if p.UUID != "" {
			byUUID[p.UUID] = p
		}
	}
	var out []string
	named := map[string]bool{}
	swap := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") || f[2] != "swap" && f[2] != "vfat" && !strings.HasPrefix(f[2], "ext") {
			continue
		}
		p, found := byUUID[strings.Trim(strings.TrimPrefix(f[0], "UUID="), `"`)]
		switch {
		case !found:
			out = append(out, fmt.Sprintf("fstab: %s is no file system of this disk", f[0]))
		case f[2] == "swap":
			swap = true
		case mountPoints[p.Number] != f[1]:
			out = append(out, fmt.Sprintf("fstab: %s is partition %d, mounted on %s instead of %s", f[0], p.Number, f[1], mountPoints[p.Number]))
		}
		named[f[1]] = true
	}
	for _, at := range mountPoints {
		if !named[at] {
			out = append(out, "fstab: nothing for "+at)
		}
	}
	for _, p := range parts {
		if p.FSType == "swap" && !swap {
			out = append(out, fmt.Sprintf("fstab: swap partition %d isn't named", p.Number))
		}
	}
	slices.Sort(out)
	return out, nil
}
