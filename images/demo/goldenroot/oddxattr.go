package goldenroot

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func xattrs(dir string) error {
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := write(file, []byte("xattrs\n"), 0o644); err != nil {
		return err
	}
	if err := os.Symlink("file", link); err != nil {
		return err
	}
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		return err
	}
	capable := filepath.Join(dir, "capable")
	if err := write(capable, []byte("\x7fELF"), 0o755); err != nil {
		return err
	}
	device, fifo := filepath.Join(dir, "device"), filepath.Join(dir, "fifo")
	if err := unix.Mknod(device, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		return err
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return err
	}
	// Owned by somebody: chown(2) takes a capability away, so it comes first.
	if err := os.Lchown(capable, 1000, 1000); err != nil {
		return err
	}
	for _, x := range []struct{ name, key, value string }{
		{file, "user.comment", "plain"}, {file, "user.empty", ""}, {file, "user.binary", "\x00\x01\xff\n"},
		{file, "user.long", strings.Repeat("x", 3000)}, {file, "trusted.lab", "root only"},
		{file, "security.lab", "a label"}, {sub, "user.on-directory", "yes"}, {link, "trusted.on-symlink", "yes"},
		{file, "security.selinux", "system_u:object_r:etc_t:s0\x00"}, {link, "security.selinux", "system_u:object_r:bin_t:s0\x00"},
		{file, "security.ima", "\x03\x01"}, {sub, "trusted.overlay.opaque", "y"},
		{device, "trusted.on-device", "yes"}, {fifo, "trusted.on-fifo", "yes"},
		{capable, "security.capability", capability()},
	} {
		if err := unix.Lsetxattr(x.name, x.key, []byte(x.value), 0); err != nil {
			return &os.PathError{Op: "set " + x.key, Path: x.name, Err: err}
		}
	}
	return setTimes(link, sub, device, fifo)
}

// capability is cap_net_raw+ep as a struct vfs_cap_data of revision 2
// (linux/capability.h): magic with the effective bit, permitted, inheritable,
// and the upper halves.
func capability() string {
	var b []byte
	for _, v := range []uint32{0x02000001, 1 << 13, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return string(b)
}

// aclEntry is a struct posix_acl_xattr_entry (linux/posix_acl_xattr.h).
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

const noID = 0xffffffff

// acl is a list as linux/posix_acl_xattr.h has it, behind its version.
func acl(entries ...aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

func acls(dir string) error {
	file, sub := filepath.Join(dir, "file"), filepath.Join(dir, "sub")
	if err := write(file, []byte("acl\n"), 0o640); err != nil {
		return err
	}
	if err := os.Mkdir(sub, 0o750); err != nil {
		return err
	}
	// Tags: 1 owner, 2 user, 4 group, 8 named group, 16 mask, 32 others.
	list := acl(aclEntry{1, 6, noID}, aclEntry{2, 4, 1000}, aclEntry{2, 6, 4_000_000_000}, aclEntry{4, 4, noID},
		aclEntry{8, 4, 2000}, aclEntry{16, 6, noID}, aclEntry{32, 0, noID})
	if err := unix.Setxattr(file, "system.posix_acl_access", list, 0); err != nil {
		return &os.PathError{Op: "set acl", Path: file, Err: err}
	}
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		if err := unix.Setxattr(sub, name, list, 0); err != nil {
			return &os.PathError{Op: "set " + name, Path: sub, Err: err}
		}
	}
	// Made inside a directory with a default ACL, but with a mode of its own
	// and no ACL: a clone that lets the default work on it gets it wrong.
	inner := filepath.Join(sub, "no-acl")
	if err := write(inner, []byte("no acl\n"), 0o604); err != nil {
		return err
	}
	if err := unix.Removexattr(inner, "system.posix_acl_access"); err != nil {
		return &os.PathError{Op: "remove acl", Path: inner, Err: err}
	}
	if err := unix.Chmod(inner, 0o604); err != nil {
		return err
	}
	return setTimes(sub, inner)
}
