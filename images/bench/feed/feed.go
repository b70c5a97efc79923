// Package feed makes what is sent: bytes of known kinds, the same in every
// run. It makes no claim to be anybody's data; the golden root, which is real,
// is made elsewhere.
//
//	Random  incompressible        ░▒▓█  one file
//	Text    about 3 to 1          the of and …  one file
//	Small   many small files      d000/f000, d000/f001, …
package feed

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Random makes a file of n bytes that can't be compressed.
func Random(ctx context.Context, path string, n int64) error {
	return fill(ctx, path, n, noise(1))
}

// Text makes a file of n bytes that zstd's fastest level makes about a third
// of: words, some often and some seldom, and numbers.
func Text(ctx context.Context, path string, n int64) error {
	return fill(ctx, path, n, &words{r: rand.New(rand.NewPCG(2, 0))})
}

func noise(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

func fill(ctx context.Context, path string, n int64, from io.Reader) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make source: %w", err)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = fmt.Errorf("make source: %w", e)
		}
	}()
	buf := make([]byte, 1<<20)
	for n > 0 && ctx.Err() == nil {
		part := buf[:min(n, int64(len(buf)))]
		if _, err := io.ReadFull(from, part); err != nil {
			return fmt.Errorf("make source %s: %w", path, err)
		}
		if _, err := f.Write(part); err != nil {
			return fmt.Errorf("make source: %w", err)
		}
		n -= int64(len(part))
	}
	return ctx.Err()
}

// words is an endless text.
type words struct {
	r    *rand.Rand
	rest []byte
}

func (w *words) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(w.rest) == 0 {
			w.rest = w.next()
		}
		k := copy(p[n:], w.rest)
		w.rest, n = w.rest[k:], n+k
	}
	return n, nil
}

// next is a word: squared, so that low numbers, which are short words, come
// often, as in a language.
func (w *words) next() []byte {
	if w.r.IntN(12) == 0 {
		return fmt.Appendf(nil, "%d ", w.r.IntN(100_000))
	}
	f := w.r.Float64()
	i := int(f * f * f * 4000)
	word := make([]byte, 0, 12)
	for x := i + 20; x > 0; x /= 20 {
		word = append(word, "etaoinshrdlucmfwypvb"[x%20])
	}
	return append(word, " \n"[w.r.IntN(12)/11])
}

// Small makes files in so many folders, and says how many bytes they have:
// some empty, most of 1 to 6 KiB, none above 16 KiB, none compressible, so
// that who compresses gains nothing by it.
func Small(ctx context.Context, dir string, files, folders int) (total int64, err error) {
	r := rand.New(rand.NewPCG(3, 0))
	in := bufio.NewReaderSize(noise(3), 1<<16)
	buf := make([]byte, 16<<10)
	for d := range folders {
		sub := filepath.Join(dir, fmt.Sprintf("d%02d", d%100), fmt.Sprintf("d%03d", d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return 0, fmt.Errorf("make source: %w", err)
		}
		for f := d; f < files; f += folders {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			n := min(int(r.ExpFloat64()*4096), len(buf))
			if r.IntN(50) == 0 {
				n = 0
			}
			if _, err := io.ReadFull(in, buf[:n]); err != nil {
				return 0, fmt.Errorf("make source: %w", err)
			}
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%06d", f)), buf[:n], 0o644); err != nil {
				return 0, fmt.Errorf("make source: %w", err)
			}
			total += int64(n)
		}
	}
	return total, nil
}
