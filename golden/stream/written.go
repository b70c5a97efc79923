package stream

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mark names the state of a file or device: it is another one after each
// write, and after a boot.
func Mark(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("look for writes: %w", err)
	}
	defer f.Close()
	return markOf(f)
}
