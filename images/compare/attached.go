package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Attached is a clone whose disks are devices of this machine, under a kernel
// that knows all that they hold. Things are named as on the golden node,
// without /dev/.
//
//	sda1 sdb1 ─mdadm─▶ md0 ─cryptsetup─▶ mapper/crypt ─lvm─▶ vg0/root ─mount ro─▶ Scan ─▶ Finding
type Attached struct {
	Disks  map[string]string // name to this machine's device: "sda" is "/dev/vda"
	Arrays []AttachedArray
	Crypts []AttachedCrypt
	Groups []string // volume groups: "vg0"
	Places []Place
	Swap   string   // what the clone swaps on; empty: nothing
	Words  []string // of golden's identity, that must not be found
}

// AttachedArray is a software RAID.
type AttachedArray struct {
	Name    string
	Members []string
}

// AttachedCrypt is a LUKS container and what opens it.
type AttachedCrypt struct {
	Name, On, Key string
}

// Place is a mount of the clone's.
type Place struct {
	On, Type, At string
	Options      string // "subvol=@"
}

// Finding is what was found on a clone's disks.
type Finding struct {
	Tree     Tree
	Identity Identity
	Menu     string                 // /boot/grub/grub.cfg
	UUIDs    map[string]string      // of file systems and swap, by the name of what they are on
	Tables   map[string][]Partition // by disk
	Problems []string
}

func (f *Finding) problem(format string, args ...any) {
	f.Problems = append(f.Problems, fmt.Sprintf(format, args...))
}

// Inspect puts together what lies on the disks, below the empty directory
// root, and reads everything. All is mounted read-only, and left so: its machine
// ends with it. But reiserfsck writes to a superblock even when it only
// checks, and an array begins to make its members equal: give it copies.
func (a Attached) Inspect(ctx context.Context, root string) (*Finding, error) {
	f := &Finding{UUIDs: map[string]string{}, Tables: map[string][]Partition{}}
	started := time.Now()
	step := func(what string) { fmt.Fprintf(os.Stderr, "%5.1f s  %s\n", time.Since(started).Seconds(), what) }
	for name, device := range a.Disks {
		parts, err := Table(ctx, device)
		if err != nil {
			return nil, err
		}
		f.Tables[name] = parts
	}
	if err := a.assemble(ctx, f); err != nil {
		return nil, err
	}
	slices.SortFunc(a.Places, func(x, y Place) int { return strings.Compare(x.At, y.At) })
	checked := map[string]bool{}
	for _, p := range a.Places {
		if !checked[p.On] { // of a btrfs several subvolumes are mounted
			a.check(ctx, f, p)
		}
		checked[p.On] = true
		if err := a.mount(ctx, root, p); err != nil {
			return nil, err
		}
	}
	step("checked and mounted")
	if a.Swap != "" {
		a.identify(ctx, f, a.Swap, "swap")
	}
	var err error
	if f.Tree, err = Scan(root); err != nil {
		return nil, err
	}
	step("scanned")
	return f, a.read(root, f)
}

// assemble makes arrays, containers and volumes appear.
func (a Attached) assemble(ctx context.Context, f *Finding) error {
	for _, m := range a.Arrays {
		args := []string{"mdadm", "--assemble", "--run", "/dev/" + m.Name}
		for _, member := range m.Members {
			args = append(args, a.device(member))
		}
		if _, err := output(ctx, args...); err != nil {
			return err
		}
		state, err := output(ctx, "mdadm", "--detail", "/dev/"+m.Name)
		if err != nil {
			return err
		}
		if s := string(state); strings.Contains(s, "degraded") || strings.Contains(s, "removed") {
			f.problem("%s lacks a member:\n%s", m.Name, s)
		}
	}
	for _, c := range a.Crypts {
		key := filepath.Join(os.TempDir(), "key-"+c.Name)
		if err := os.WriteFile(key, []byte(c.Key), 0o600); err != nil {
			return err
		}
		if _, err := output(ctx, "cryptsetup", "open", "--readonly", "--key-file", key, a.device(c.On), c.Name); err != nil {
			return err
		}
	}
	for _, g := range a.Groups {
		if _, err := output(ctx, "lvm", "vgchange", "--activate", "y", g); err != nil {
			return err
		}
	}
	return nil
}

// device is where a thing is on this machine.
func (a Attached) device(name string) string {
	for disk, device := range a.Disks {
		rest, ok := strings.CutPrefix(name, disk)
		if !ok {
			continue
		}
		number := strings.TrimPrefix(rest, "p") // nvme0n1p2
		if strings.Trim(number, "0123456789") == "" {
			return device + number // virtio's names don't end in a digit
		}
	}
	return "/dev/" + name
}

// checkers look at a file system and repair nothing.
var checkers = map[string][]string{
	"ext2": {"e2fsck", "-fn"}, "ext3": {"e2fsck", "-fn"}, "ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n"},
	"btrfs": {"btrfs", "check", "--readonly"}, "jfs": {"fsck.jfs", "-n", "-f"}, "reiserfs": {"reiserfsck", "--check", "--yes", "-q"},
	"f2fs": {"fsck.f2fs", "--dry-run"}, "vfat": {"fsck.fat", "-n"},
}

func (a Attached) check(ctx context.Context, f *Finding, p Place) {
	a.identify(ctx, f, p.On, p.Type)
	if _, err := output(ctx, append(slices.Clone(checkers[p.Type]), a.device(p.On))...); err != nil {
		f.problem("%s: %v", p.On, err)
	}
}

func (a Attached) identify(ctx context.Context, f *Finding, name, kind string) {
	tag := func(t string) string {
		out, _ := output(ctx, "blkid", "-p", "-o", "value", "-s", t, a.device(name)) // status 2: nothing known
		return strings.TrimSpace(string(out))
	}
	if got := tag("TYPE"); got != kind {
		f.problem("%s has %q, want %s", name, got, kind)
	}
	f.UUIDs[name] = tag("UUID")
}

// readOnly are mount options with which a file system isn't written to at all.
var readOnly = map[string]string{
	"ext3": "noload", "ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay",
	"vfat": "iocharset=utf8", "reiserfs": "nolog,acl,user_xattr", "f2fs": "norecovery",
}

func (a Attached) mount(ctx context.Context, root string, p Place) error {
	options := []string{"ro"}
	for _, o := range []string{readOnly[p.Type], p.Options} {
		if o != "" {
			options = append(options, o)
		}
	}
	var data []string
	for o := range strings.SplitSeq(strings.Join(options[1:], ","), ",") {
		if o != "" {
			data = append(data, o)
		}
	}
	at := filepath.Join(root, p.At)
	if err := unix.Mount(a.device(p.On), at, p.Type, unix.MS_RDONLY, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("mount %s (%s, %v) on %s: %w", a.device(p.On), p.Type, data, p.At, err)
	}
	return ctx.Err()
}

// read reads those files whose text matters.
func (a Attached) read(root string, f *Finding) error {
	var err error
	if f.Identity, err = ReadIdentity(root); err != nil {
		return err
	}
	traces, err := Traces(root, a.Words)
	if err != nil {
		return err
	}
	f.Problems = append(f.Problems, traces...)
	menu, err := os.ReadFile(filepath.Join(root, "boot/grub/grub.cfg"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f.Menu = string(menu)
	fstab, err := os.ReadFile(filepath.Join(root, "etc/fstab"))
	f.Problems = append(f.Problems, a.fstab(string(fstab), f.UUIDs)...)
	return err
}

// fstab says what is wrong with the clone's: each place has its line, by the
// clone's own UUID or a name that only a volume has, and nothing else has one.
func (a Attached) fstab(text string, uuids map[string]string) []string {
	var out []string
	wanted := map[string]string{}
	for _, p := range a.Places {
		wanted[p.At] = p.On
	}
	if a.Swap != "" {
		wanted["swap"] = a.Swap
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") {
			continue
		}
		at := f[1]
		if f[2] == "swap" {
			at = "swap"
		}
		on, ok := wanted[at]
		if !ok {
			out = append(out, fmt.Sprintf("fstab: a line too many: %s", strings.TrimSpace(line)))
			continue
		}
		delete(wanted, at)
		switch name := strings.Trim(strings.TrimPrefix(f[0], "UUID="), `"`); {
		case name == uuids[on]:
		case strings.HasPrefix(on, "md") && name == "/dev/"+on: // mdadm.conf gives it the name
		case strings.Contains(on, "/") && (name == "/dev/"+on || name == "/dev/mapper/"+strings.Replace(on, "/", "-", 1)):
		default:
			out = append(out, fmt.Sprintf("fstab: %s is on %s, which isn't %s (UUID %s)", at, f[0], on, uuids[on]))
		}
	}
	for at, on := range wanted {
		out = append(out, fmt.Sprintf("fstab: nothing for %s on %s", at, on))
	}
	slices.Sort(out)
	return out
}
