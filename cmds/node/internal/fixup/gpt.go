package fixup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// otherSystems are the GUIDs of the partitions on this machine's other disks,
// in small letters: what starts from them isn't the clone's to remove. Disks
// that can't be read, a drive without a medium, have none.
func (c *clone) otherSystems(own volume) map[string]bool {
	sys := c.env.Sys
	if sys == "" {
		sys = "/sys"
	}
	dirs, _ := filepath.Glob(filepath.Join(sys, "block/*")) // the pattern is right
	others := map[string]bool{}
	for _, dir := range dirs {
		disk := "/dev/" + strings.ReplaceAll(filepath.Base(dir), "!", "/")
		if c.ownDisk(disk) {
			continue
		}
		f, err := os.Open(disk)
		if err != nil {
			continue
		}
		guids, err := partitionGUIDs(f)
		f.Close()
		if err != nil {
			c.env.Log.Debug("partitions of another disk", "disk", disk, "err", err)
		}
		for _, g := range guids {
			others[g] = true
		}
	}
	delete(others, strings.ToLower(own.now.PartID)) // a copy of the clone's disk: which is meant nobody knows
	return others
}

// ownDisk says whether a device is one of the plan's disks.
func (c *clone) ownDisk(disk string) bool {
	is, err := os.Stat(disk)
	for _, d := range c.env.Disks.Disks {
		if d == disk {
			return true
		}
		if own, e := os.Stat(d); err == nil && e == nil && os.SameFile(is, own) {
			return true
		}
	}
	return false
}

// partitionGUIDs are those of a GPT, in small letters; a disk without one has
// none (UEFI specification, 5.3).
func partitionGUIDs(r io.ReaderAt) ([]string, error) {
	const (
		minEntry, maxEntry = 128, 4096 // bytes: of an entry; longer ones aren't made
		maxEntries         = 1024      // Linux makes 128, and takes no more than 256 partitions
	)
	for _, sector := range []int64{512, 4096} { // a disk's logical sector
		head := make([]byte, 92) // 5.3.2
		if _, err := r.ReadAt(head, sector); err != nil {
			return nil, fmt.Errorf("read the head of a GPT: %w", err)
		}
		if !bytes.HasPrefix(head, []byte("EFI PART")) {
			continue
		}
		at, n, size := binary.LittleEndian.Uint64(head[72:]), binary.LittleEndian.Uint32(head[80:]), binary.LittleEndian.Uint32(head[84:])
		if at > 1<<48 || n > maxEntries || size < minEntry || size > maxEntry {
			return nil, fmt.Errorf("a GPT of %d entries of %d bytes at sector %d", n, size, at)
		}
		table := make([]byte, n*size)
		if _, err := r.ReadAt(table, int64(at)*sector); err != nil {
			return nil, fmt.Errorf("read the entries of a GPT: %w", err)
		}
		var guids []string
		for e := table; len(e) >= int(size); e = e[size:] {
			if kind := e[:16]; !bytes.Equal(kind, make([]byte, 16)) {
				guids = append(guids, guid([16]byte(e[16:32])))
			}
		}
		return guids, nil
	}
	return nil, nil
}

// guid is how a GPT's is written: its first three numbers are little-endian
// (UEFI specification, appendix A).
func guid(b [16]byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:])
}
