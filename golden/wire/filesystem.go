package wire

import "slices"

// MountPoints is where the files of a file system are seen: a btrfs's in many
// places.
func (fs Filesystem) MountPoints() []string {
	var list []string
	for _, s := range fs.Subvolumes {
		if s.MountPoint != "" {
			list = append(list, s.MountPoint)
		}
	}
	if fs.MountPoint != "" && !slices.Contains(list, fs.MountPoint) {
		list = append(list, fs.MountPoint)
	}
	return list
}
