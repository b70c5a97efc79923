package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/kamethod/kamethod/golden/wire"
)

// identity is what the golden system under root is known by.
func identity(root, sys string) wire.Golden {
	g := wire.Golden{Hostname: hostname(root), MachineID: firstLine(root, "etc/machine-id")}
	if root == "/" {
		g.MACs = cards(sys)
	}
	return g
}

// hostname is the machine's name: in a file of its own, or, on RHEL up to 6 and
// on Mandriva, in one of sysconfig; SUSE and Slackware of old have another.
func hostname(root string) string {
	if name := firstLine(root, "etc/hostname"); name != "" && name[0] != '#' {
		return name
	}
	for line := range strings.Lines(readSmall(root, "etc/sysconfig/network")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "HOSTNAME="); ok {
			if name = strings.Trim(name, `"'`); name != "" {
				return name
			}
		}
	}
	return firstLine(root, "etc/HOSTNAME")
}

// cards is the addresses of the machine's network cards: what has a device,
// and no bridge, bond or tunnel has.
func cards(sys string) []string {
	dirs, _ := filepath.Glob(filepath.Join(sys, "class/net/*/device"))
	var macs []string
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "address"))
		mac := strings.TrimSpace(string(text))
		if err == nil && len(mac) == 17 && mac != "00:00:00:00:00:00" && !slices.Contains(macs, mac) {
			macs = append(macs, mac)
		}
	}
	return macs
}

// readSmall is a small file below root, empty if there is none.
func readSmall(root, name string) string {
	r, err := os.OpenRoot(root)
	if err != nil {
		return ""
	}
	defer r.Close()
	if st, err := r.Stat(name); err != nil || !st.Mode().IsRegular() || st.Size() > 1<<16 {
		return ""
	}
	text, err := r.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(text)
}

// firstLine is the first line of a small file below root, empty if none.
func firstLine(root, name string) string {
	line, _, _ := strings.Cut(readSmall(root, name), "\n")
	return strings.TrimSpace(line)
}

// readable is the mount points whose files are cloned: the plan's, mounted now
// or not, so that the scan tells apart what each file system needs, and in a
// folder also what else of a disk is mounted below it, for that is how it
// became a whole system.
func (d *describer) readable(filesystems []wire.Filesystem) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(d.opt.Root))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	list := []string{"/"}
	for _, fs := range filesystems {
		for _, at := range fs.MountPoints() {
			if !slices.Contains(list, at) {
				list = append(list, at)
			}
		}
	}
	for _, m := range mounts {
		rel, err := filepath.Rel(d.opt.Root, m.Mountpoint)
		if err != nil {
			return nil, fmt.Errorf("mount %s below %s: %w", m.Mountpoint, d.opt.Root, err)
		}
		at := filepath.Join("/", rel)
		bound := m.Root != "/" || m.Major == 0 || noDisk(m.FSType)
		if slices.Contains(list, at) || d.excluded(at) || d.opt.Root == "/" || bound {
			continue
		}
		d.note("%s: mounted there now, but no file system of the clone's: its files go into the one around it", m.Mountpoint)
		list = append(list, at)
	}
	return list, nil
}
