package rehearsal

import (
	"os"
	"path/filepath"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
)

// TidyUp removes what a rehearsal left in its folder, or, for the person who
// looks what went wrong, only what is large.
func TidyUp(work string, keepLogs bool) error {
	if err := goldenroot.Remove(filepath.Join(work, "golden")); err != nil {
		return err
	}
	if !keepLogs {
		return os.RemoveAll(work)
	}
	disks, err := filepath.Glob(filepath.Join(work, "*.img*"))
	if err != nil {
		return err
	}
	for _, d := range append(disks, filepath.Join(work, "golden-serve")) {
		if err := os.Remove(d); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
