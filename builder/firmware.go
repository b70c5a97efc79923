package builder

import (
	"path"
	"path/filepath"
	"slices"
)

// addFirmware adds the firmware files that modules name, as far as this
// machine has them, and tells which it hasn't. A name may hold wildcards.
func (r *run) addFirmware(t *Tree, set []*Module) (missing []string) {
	const dir = "/lib/firmware"
	for _, m := range set {
		for _, name := range m.info.firmware {
			found := false
			for _, suffix := range []string{"", ".xz", ".zst"} { // forms that the kernel's loader reads
				files, _ := filepath.Glob(filepath.Join(dir, path.Clean("/"+name)+suffix))
				for _, f := range files {
					found = true
					if t.Get(f) == nil && t.AddPath(f, f, 0o644) != nil {
						found = false
					}
				}
			}
			if !found {
				missing = append(missing, name)
			}
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}
