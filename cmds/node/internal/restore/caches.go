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

// FlushEarly makes the kernel of this machine begin to write when 32 MiB wait
// for the disk, not a tenth of the memory: so the disk works while the network
// does, and Finish waits for little. It is for a machine that does nothing
// else, and needs root.
func FlushEarly() error {
	// linux, Documentation/admin-guide/sysctl/vm.rst.
	if err := os.WriteFile("/proc/sys/vm/dirty_background_bytes", []byte("33554432"), 0o644); err != nil {
		return fmt.Errorf("flush early: %w", err)
	}
	return nil
}
