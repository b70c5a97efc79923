package download

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// reserve is left of the memory for stage 2 itself.
const reserve = 48 << 20

// room is how large an image may be: what the file system takes, and no more
// than the memory that is free.
func room(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("ask for the room in %s: %w", dir, err)
	}
	size := int64(fs.Bavail) * fs.Bsize
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return size, nil
	}
	if free, ok := available(b); ok {
		size = min(size, free-reserve)
	}
	if size <= 0 {
		return 0, fmt.Errorf("no memory is left for an image in %s", dir)
	}
	return size, nil
}

// available is MemAvailable of /proc/meminfo, in bytes (proc(5)).
func available(meminfo []byte) (int64, bool) {
	for s := bufio.NewScanner(bytes.NewReader(meminfo)); s.Scan(); {
		rest, ok := bytes.CutPrefix(s.Bytes(), []byte("MemAvailable:"))
		if !ok {
			continue
		}
		f := bytes.Fields(rest)
		if len(f) == 0 {
			return 0, false
		}
		n, err := strconv.ParseInt(string(f[0]), 10, 64)
		if err != nil || n < 0 || n > 1<<53 {
			return 0, false
		}
		return n << 10, true
	}
	return 0, false
}
