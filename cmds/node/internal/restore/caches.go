package restore

import (
	"fmt"
	"os"
)

// DropCaches makes the kernel forget what it has read and written, so that
// ReadPiece afterwards says what is on the disk. Finish has to come before:
// only what is written already can be forgotten. It needs root.
func DropCaches() error {
	// 1: page cache (linux, Documentation/admin-guide/sysctl/vm.rst).
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0o200); err != nil {
		return fmt.Errorf("drop caches: %w", err)
	}
	return nil
}
