package capture

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/mangle"
	"github.com/kamethod/kamethod/golden/wire"
)

// entry is a line of an fstab(5).
type entry struct {
	line             int
	spec, file, kind string
	options          []string
}

// maxFstab bounds an fstab: far above any that a person maintains.
const maxFstab = 1 << 20

// parseFstab reads an fstab; name is for messages.
func parseFstab(r io.Reader, name string) ([]entry, error) {
	limited := &io.LimitedReader{R: r, N: maxFstab + 1}
	lines := bufio.NewScanner(limited)
	var all []entry
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if len(words) < 3 {
			return nil, fmt.Errorf("%s:%d: %q: want DEVICE MOUNTPOINT TYPE at least", name, n, words[len(words)-1])
		}
		e := entry{line: n, spec: unquote(mangle.Undo(words[0])), file: mangle.Undo(words[1]), kind: mangle.Undo(words[2])}
		if len(words) > 3 {
			e.options = strings.Split(mangle.Undo(words[3]), ",")
		}
		if strings.ContainsRune(e.spec+e.file+e.kind, 0) {
			return nil, fmt.Errorf("%s:%d: %q: a zero byte", name, n, lines.Text())
		}
		all = append(all, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFstab)
	}
	return all, nil
}

// unquote takes the quotes off UUID="..." and its like.
func unquote(spec string) string {
	tag, value, ok := strings.Cut(spec, "=")
	if ok && len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		return tag + "=" + value[1:len(value)-1]
	}
	return spec
}

func (e entry) has(option string) bool { return slices.Contains(e.options, option) }

// ext says whether it is a type of file system that a clone can be given.
func ext(kind string) bool { return slices.Contains([]string{"ext2", "ext3", "ext4"}, kind) }

// efiPlace says whether an EFI system partition is usually mounted there: any
// other FAT is for data, and can't be cloned.
func efiPlace(mountPoint string) bool {
	return slices.Contains([]string{EFIMount, "/efi", "/boot"}, filepath.Clean(mountPoint))
}

// noDisk says whether a type of file system lies on no disk: made by the
// kernel, or on the network.
func noDisk(kind string) bool {
	for _, prefix := range []string{"fuse.", "cgroup", "nfs", "smb"} {
		if strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return slices.Contains([]string{
		"proc", "sysfs", "tmpfs", "ramfs", "devtmpfs", "devpts", "debugfs", "tracefs", "securityfs", "configfs",
		"pstore", "efivarfs", "bpf", "mqueue", "hugetlbfs", "binfmt_misc", "rpc_pipefs", "nfsd", "autofs", "usbfs", "usbdevfs",
		"fusectl", "selinuxfs", "fuse", "supermount", "none", "ignore",
		"cifs", "ncpfs", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs", "gfs2", "ocfs2", "davfs", "sshfs", "curlftpfs",
	}, kind)
}

// medium says whether a device is a drive for media.
func medium(spec string) bool {
	name := strings.TrimPrefix(spec, "/dev/")
	for _, prefix := range []string{"cdrom", "dvd", "sr", "scd", "fd", "floppy"} {
		if name != spec && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// why is the reason an entry is nothing to clone, empty if it is.
func (e entry) why() string {
	switch {
	case e.kind == "swap" && !strings.HasPrefix(e.spec, "/dev/") && !strings.Contains(e.spec, "="):
		return "a swap file, no partition"
	case e.kind == "swap":
		return ""
	case noDisk(e.kind):
		return "on no disk"
	case medium(e.spec) || e.kind == "iso9660" || e.kind == "udf":
		return "a removable medium"
	case e.has("bind") || e.has("rbind"):
		return "a bind mount"
	case e.has("loop"):
		return "a file, no partition"
	case e.has("noauto") && !(known(e.kind) && (e.kind != wire.VFAT || efiPlace(e.file))):
		return "not mounted at boot"
	case !filepath.IsAbs(e.file):
		return "mounted nowhere"
	}
	return ""
}
