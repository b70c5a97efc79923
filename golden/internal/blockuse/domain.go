package blockuse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/stream"
)

// domainTime is how long partclone may take to read a file system's metadata.
const domainTime = 30 * time.Minute

// domain has partclone list the blocks in use, in the form of a ddrescue
// domain log; it copies nothing. It refuses a file system that is mounted, or
// one that wasn't left clean: force makes it take one that is mounted, which
// is read-only then.
func domain(ctx context.Context, program, path string, size int64, force bool) ([]stream.Extent, error) {
	dir, err := os.MkdirTemp("", "kamethod-blocks-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "domain")
	args := []string{"--domain", "--source", path, "--output", file, "--logfile", filepath.Join(dir, "log")}
	if force {
		args = append(args, "--force")
	}
	if _, err := run(ctx, domainTime, program, args...); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", program, path, err)
	}
	defer f.Close()
	xs, err := parseDomain(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", program, path, err)
	}
	return xs, nil
}

// maxDomain bounds how many ranges are read.
const maxDomain = 64 << 20

// parseDomain reads a domain log (GNU ddrescue manual, Mapfile structure): after
// comments a line with the current position, then lines of position, size and
// status, of which + is in use. They ascend, and begin where the one before
// ended.
func parseDomain(r io.Reader, size int64) ([]stream.Extent, error) {
	return parseRanges(r, size, 2*stream.MaxExtents) // 16 bytes each
}

// parseRanges joins what is near when more than keep ranges are there.
func parseRanges(r io.Reader, size int64, keep int) ([]stream.Extent, error) {
	m := stream.BlockMap{Bytes: size}
	var pos int64
	ranges, status := 0, false
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 4096), 4096)
	for line := 1; in.Scan(); line++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		words := strings.Fields(text)
		switch {
		case len(words) == 0:
			continue
		case !status && (len(words) == 2 || len(words) == 3): // newer ones have the current pass, too
			status = true
			continue
		case !status || len(words) != 3:
			return nil, fmt.Errorf("domain log, line %d: %q", line, in.Text())
		}
		from, err := number(words[0])
		n, err2 := number(words[1])
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("domain log, line %d: %w", line, err)
		}
		if from != pos || n <= 0 || n > size-from {
			return nil, fmt.Errorf("domain log, line %d: %d bytes at %d, behind %d of %d", line, n, from, pos, size)
		}
		pos = from + n
		if ranges++; ranges > maxDomain {
			return nil, fmt.Errorf("domain log: more than %d ranges", maxDomain)
		}
		switch words[2] {
		case "+":
			m.Extents = append(m.Extents, stream.Extent{Off: from, Len: n})
			if len(m.Extents) > keep {
				m.Join(joinGap)
			}
		case "?":
		default:
			return nil, fmt.Errorf("domain log, line %d: status %q", line, words[2])
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("domain log: %w", err)
	}
	if len(m.Extents) == 0 {
		return nil, errors.New("domain log: nothing is in use")
	}
	return m.Extents, nil
}

// number is not negative.
func number(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 0, 63)
	return int64(n), err
}
