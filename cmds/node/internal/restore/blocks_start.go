package restore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The boot sector of NTFS and FAT (Microsoft's FAT specification, the BIOS
// parameter block; NTFS has its own in the same place).
const (
	bootSector   = 512  // bytes, whatever the disk's sectors are
	oemAt        = 3    // "NTFS    "
	perSectorAt  = 0x0b // 2 bytes
	hiddenAt     = 0x1c // 4 bytes: sectors before the partition
	backupAt     = 0x32 // 2 bytes, FAT32: sector of the second boot sector
	totalAt      = 0x28 // 8 bytes, NTFS: sectors of the volume; the second boot sector is behind them
	fat32At      = 0x52 // "FAT32   "
	fat16At      = 0x36 // "FAT16   "
	bootMagicAt  = 510
	bootMagic    = 0xaa55
	smallestUnit = 512
	largestUnit  = 4096
)

// fixStart writes where the partition begins into the boot sectors of the NTFS
// or FAT in it: what boots from there reads the disk by that number. It says
// what it has changed; nothing where neither is there, or it is right.
func fixStart(f *os.File, startBytes int64) (string, error) {
	var sector [bootSector]byte
	if _, err := f.ReadAt(sector[:], 0); err != nil {
		return "", fmt.Errorf("read the boot sector: %w", err)
	}
	second, ok := secondBootSector(sector[:])
	if !ok {
		return "", nil
	}
	unit := int64(binary.LittleEndian.Uint16(sector[perSectorAt:]))
	start := startBytes / unit
	if start > math.MaxUint32 {
		return "", fmt.Errorf("the partition begins at sector %d: there is no room for that in a boot sector", start)
	}
	was := binary.LittleEndian.Uint32(sector[hiddenAt:])
	if was == uint32(start) {
		return "", nil
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	for _, at := range []int64{0, second * unit} {
		if at != 0 && (second <= 0 || at > size-bootSector) {
			continue
		}
		var s [bootSector]byte
		if _, err := f.ReadAt(s[:], at); err != nil {
			return "", fmt.Errorf("read the boot sector at %d: %w", at, err)
		}
		// The second one is the same, or it is none.
		if !bytes.Equal(s[:hiddenAt], sector[:hiddenAt]) || binary.LittleEndian.Uint16(s[bootMagicAt:]) != bootMagic {
			continue
		}
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], uint32(start))
		if _, err := f.WriteAt(b[:], at+hiddenAt); err != nil {
			return "", fmt.Errorf("write the boot sector at %d: %w", at, err)
		}
	}
	return fmt.Sprintf("its boot sector says that it begins at sector %d, as here, not %d", start, was), nil
}

// secondBootSector is where an NTFS or FAT keeps a copy of its boot sector, in
// sectors; 0: nowhere. ok says whether it is either.
func secondBootSector(s []byte) (second int64, ok bool) {
	unit := binary.LittleEndian.Uint16(s[perSectorAt:])
	if binary.LittleEndian.Uint16(s[bootMagicAt:]) != bootMagic || unit < smallestUnit || unit > largestUnit || unit&(unit-1) != 0 {
		return 0, false
	}
	has := func(at int, word string) bool { return string(s[at:at+len(word)]) == word }
	switch {
	case has(oemAt, "NTFS    "):
		n := binary.LittleEndian.Uint64(s[totalAt:])
		if n > math.MaxInt64/largestUnit {
			return 0, true
		}
		return int64(n), true
	case has(fat32At, "FAT32   "):
		return int64(binary.LittleEndian.Uint16(s[backupAt:])), true
	case has(fat16At, "FAT16   "), has(fat16At, "FAT12   "):
		return 0, true
	}
	return 0, false
}

// partitionStart is where on its disk a partition begins, in bytes. It is 0 of
// what is no partition: a disk as a whole, a volume.
func partitionStart(dev string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", dev, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, nil
	}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	b, err := os.ReadFile(filepath.Join(sys, "start"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/512 {
		return 0, fmt.Errorf("start of %s: %q", dev, b)
	}
	return n * 512, nil // whatever the disk's sectors: Documentation/ABI/stable/sysfs-block
}
