package goldenroot

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// island is n bytes of data in a file at an offset.
type island struct{ at, n int64 }

// holes: sparse files, and the opposite: real zeros and reserved space. The
// size is the file's: data behind it is none.
func holes(dir string) error {
	const kib, mib = 1 << 10, 1 << 20
	for name, f := range map[string]struct {
		size    int64
		islands []island
	}{
		"islands":         {16 * mib, []island{{0, 64 * kib}, {3 * mib, 64 * kib}, {12*mib + 4096, 64 * kib}}},
		"only-a-hole":     {48 * mib, nil},
		"hole-at-start":   {8*mib + 64*kib, []island{{8 * mib, 64 * kib}}},
		"hole-in-middle":  {8 * mib, []island{{0, 4096}, {8*mib - 4096, 4096}}},
		"hole-at-end":     {8*mib + 1, []island{{mib, 64 * kib}}},
		"byte-after-hole": {mib + 1, []island{{mib, 1}}},
		"single-blocks":   {4 * mib, []island{{mib, 4096}, {mib + 8192, 4096}, {2 * mib, 4096}, {3 * mib, 4096}, {4*mib - 4096, 4096}}},
		"odd-size":        {12345, []island{{4096, 4096}}},
		"large":           {96 * mib, []island{{0, 4096}, {50 * mib, 4096}}},
	} {
		if err := sparse(filepath.Join(dir, name), f.size, f.islands); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(dir, "real-zeros"), make([]byte, 2*mib), 0o600); err != nil {
		return err
	}
	if err := reserve(filepath.Join(dir, "preallocated"), 0, 4*mib, mib); err != nil {
		return err
	}
	return reserve(filepath.Join(dir, "reserved-in-middle"), 64*kib, 512*kib, 4096)
}

func sparse(name string, size int64, islands []island) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, x := range islands {
		if _, err := f.WriteAt(noise(int(x.n)), x.at); err != nil {
			return err
		}
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // so that the space it takes is what it will take
		return err
	}
	return setTimes(name)
}

// reserve makes a file with data bytes at its beginning and space from off on
// that nobody has written to.
func reserve(name string, off, n, data int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, off, n); err != nil && err != unix.EOPNOTSUPP { // ext3 has no such space
		return err
	}
	if _, err := f.WriteAt(noise(int(data)), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return setTimes(name)
}
