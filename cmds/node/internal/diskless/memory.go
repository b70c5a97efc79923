package diskless

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// least is what has to stay free for the programs that then run, in bytes.
const least = 48 << 20

// perManifest is what an entry takes in memory as against its line in the
// manifest: an inode, a name, and half a page, about 3 kB, against 100 bytes.
const perManifest = 32

// free is how much memory programs can still get, in bytes (MemAvailable,
// Documentation/filesystems/proc.rst).
func free(meminfo string) (int64, error) {
	f, err := os.Open(meminfo)
	if err != nil {
		return 0, fmt.Errorf("ask for the free memory: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		w := strings.Fields(sc.Text())
		if len(w) < 2 || w[0] != "MemAvailable:" {
			continue
		}
		kb, err := strconv.ParseInt(w[1], 10, 64)
		if err != nil || kb < 0 || kb > 1<<50 {
			return 0, fmt.Errorf("ask for the free memory: %s: %q", meminfo, sc.Text())
		}
		return kb << 10, nil
	}
	return 0, fmt.Errorf("ask for the free memory: %s has no MemAvailable", meminfo)
}

// fits tells whether memory can hold what comes, with what the chain keeps
// meanwhile (an eighth at most), and room for programs.
func fits(streams []wire.Stream, free int64) error {
	const most = 1 << 50 // more than any machine has; so few streams of it don't overflow
	var need int64
	for _, s := range streams[:min(len(streams), 64)] {
		if s.Bytes < 0 || s.Bytes > most {
			return fmt.Errorf("golden announces a stream of %d bytes", s.Bytes)
		}
		n := s.Bytes
		if s.Kind == wire.ManifestStream {
			n *= perManifest
		}
		need += n
	}
	if have := free - free/8 - least; need > have {
		return fmt.Errorf("this machine's memory is too small: what golden sends needs %s there, and it has room for %s: "+
			"give it more, or send a squashfs image, which stays compressed", mib(need), mib(max(have, 0)))
	}
	return nil
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
