package blockuse

import (
	"fmt"
	"io"
	"os"

	"github.com/kamethod/kamethod/golden/wire"
)

// DiskBootCode is what a disk has before its partition table.
func DiskBootCode(dev string) ([]byte, error) {
	f, err := os.Open(dev)
	if err != nil {
		return nil, fmt.Errorf("boot code: %w", err)
	}
	defer f.Close()
	code := make([]byte, wire.BootCodeSize)
	if _, err := io.ReadFull(f, code); err != nil {
		return nil, fmt.Errorf("boot code of %s: %w", dev, err)
	}
	for _, c := range code {
		if c != 0 {
			return code, nil
		}
	}
	return nil, fmt.Errorf("boot code of %s: the disk has none, only zeros", dev)
}

// FileBootCode is a boot record that was kept in a file, and nothing more: the
// first sector of a disk has its table, too.
func FileBootCode(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("boot code: %w", err)
	}
	defer f.Close()
	code, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("boot code: %w", err)
	}
	if n := len(code); n != wire.BootCodeSize {
		return nil, fmt.Errorf("boot code %s: %d bytes long, must be %d (head -c %d makes such a file of a larger one)", name, n, wire.BootCodeSize, wire.BootCodeSize)
	}
	return code, nil
}
