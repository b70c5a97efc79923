package goldenroot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Inode flags (linux/fs.h).
const (
	flagSync      = 0x8
	flagImmutable = 0x10
	flagAppend    = 0x20
	flagNoDump    = 0x40
	flagNoAtime   = 0x80
)

func setFlags(dir string) error {
	for name, flag := range map[string]int{
		"immutable": flagImmutable, "append": flagAppend, "nodump": flagNoDump, "noatime": flagNoAtime, "sync": flagSync,
		"all": flagImmutable | flagNoDump | flagNoAtime | flagSync,
	} {
		file := filepath.Join(dir, name)
		if err := write(file, []byte("flag\n"), 0o644); err != nil {
			return err
		}
		if err := chattr(file, flag); err != nil {
			return fmt.Errorf("chattr %s: %w", name, err)
		}
	}
	sub := filepath.Join(dir, "immutable-directory")
	if err := os.Mkdir(sub, 0o755); err != nil {
		return err
	}
	if err := write(filepath.Join(sub, "plain"), []byte("no flag\n"), 0o644); err != nil {
		return err
	}
	if err := setTimes(sub); err != nil {
		return err
	}
	return chattr(sub, flagImmutable|flagNoDump)
}

// chattr adds flags and takes the common ones away that aren't among them.
func chattr(name string, flag int) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var v int
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_GETFLAGS, uintptr(unsafe.Pointer(&v))); errno != 0 {
		return errno
	}
	const common = flagImmutable | flagAppend | flagNoDump | flagNoAtime | flagSync
	v = v&^common | flag
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_SETFLAGS, uintptr(unsafe.Pointer(&v))); errno != 0 {
		return errno
	}
	return nil
}

// clearFlags makes an odd tree removable again.
func clearFlags(dir string) {
	for _, sub := range []string{"flags", "rare"} {
		names, _ := os.ReadDir(filepath.Join(dir, sub)) // there may be none
		for _, n := range names {
			if n.IsDir() || n.Type().IsRegular() {
				_ = chattr(filepath.Join(dir, sub, n.Name()), 0) // some have none
			}
		}
	}
}

// rare is what only some file systems have.
var rare = []struct {
	name string
	make func(name string) error
}{
	{"reserved behind the end", func(name string) error {
		if err := write(name, []byte("short\n"), 0o600); err != nil {
			return err
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20)
	}},
	{"project", func(name string) error { return flagged(name, false, 4_000_000_000, 0) }},
	{"project handed down", func(name string) error { return flagged(name, true, 77, 0x20000000) }},
	{"secure deletion", func(name string) error { return flagged(name, false, 0, 0x1) }},
	{"undeletable", func(name string) error { return flagged(name, false, 0, 0x2) }},
	{"no tail merging", func(name string) error { return flagged(name, false, 0, 0x8000) }},
	{"synchronous directory", func(name string) error { return flagged(name, true, 0, 0x10000) }},
	{"top of directories", func(name string) error { return flagged(name, true, 0, 0x20000) }},
	{"direct access", func(name string) error { return flagged(name, false, 0, 0x2000000) }},
	{"several, one of which is ext4's", func(name string) error { return flagged(name, false, 0, 0x8000|flagImmutable|flagNoDump) }},
	{"no copy on write", func(name string) error {
		if err := flagged(name, true, 0, 0x800000); err != nil {
			return err
		}
		if err := write(filepath.Join(name, "inherits"), noise(64<<10), 0o600); err != nil {
			return err
		}
		other := filepath.Join(name, "does not")
		if err := flagged(other, false, 0, 0); err != nil {
			return err
		}
		return unflag(other, 0x800000)
	}},
	{"compressed", func(name string) error {
		if err := flagged(name, true, 0, 0); err != nil {
			return err
		}
		if err := unix.Setxattr(name, "btrfs.compression", []byte("lzo"), 0); err != nil {
			return err
		}
		return write(filepath.Join(name, "inherits"), make([]byte, 64<<10), 0o600)
	}},
	{"compressed and immutable", func(name string) error {
		if err := write(name, nil, 0o600); err != nil {
			return err
		}
		if err := unix.Setxattr(name, "btrfs.compression", []byte("lzo"), 0); err != nil {
			return err
		}
		x := fsxattr{}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := x.ioctl(f, fsIocFsgetxattr); err != nil {
			return err
		}
		x.Flags |= 0x8 // FS_XFLAG_IMMUTABLE
		return x.ioctl(f, fsIocFssetxattr)
	}},
	{"casefold", func(name string) error {
		if err := flagged(name, true, 0, 0x40000000); err != nil {
			return err
		}
		return os.Mkdir(filepath.Join(name, "INHERITS"), 0o755)
	}},
}

// AddRare adds, below the odd tree dir, what only some file systems have, and
// says what this one has of it.
func AddRare(dir string) (made []string, err error) {
	sub := filepath.Join(dir, "rare")
	if err := os.Mkdir(sub, 0o755); err != nil {
		return nil, err
	}
	for _, r := range rare {
		name := filepath.Join(sub, r.name)
		if r.make(name) != nil {
			if err := os.RemoveAll(name); err != nil {
				return nil, err
			}
			continue
		}
		made = append(made, r.name)
	}
	slices.Sort(made)
	return made, setTimes(sub)
}

// fsxattr is struct fsxattr of linux/fs.h.
type fsxattr struct {
	Flags, ExtSize, Extents, Project, CowExtSize uint32
	_                                            [8]byte
}

const (
	fsIocFsgetxattr = 0x801c581f
	fsIocFssetxattr = 0x401c5820
)

func (x *fsxattr) ioctl(f *os.File, request uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(x))); errno != 0 {
		return errno
	}
	return nil
}

// flagged makes a file or directory with a project and flags; those that the
// file system takes without keeping them are an error too.
func flagged(name string, dir bool, project, flag uint32) error {
	var err error
	if dir {
		err = os.Mkdir(name, 0o755)
	} else {
		err = write(name, nil, 0o600)
	}
	if err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if project != 0 {
		var x fsxattr
		if err := x.ioctl(f, fsIocFsgetxattr); err != nil {
			return err
		}
		x.Project = project
		if err := x.ioctl(f, fsIocFssetxattr); err != nil {
			return err
		}
	}
	old, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flag == 0 {
		return err
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(old|flag)); err != nil {
		return err
	}
	now, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && now&flag != flag {
		err = unix.EOPNOTSUPP
	}
	return err
}

func unflag(name string, flag uint32) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	old, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(old&^flag))
}
