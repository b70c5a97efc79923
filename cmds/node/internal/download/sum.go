package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Sums are the SHA-256 of files, in hex, by their names.
type Sums map[string]string

// SumFile is where stage 1 has the sum of the stage 2 that was built with it.
const SumFile = "/etc/kamethod/stage2.sha256"

// sumSuffix is the hash file's beside an image on a server.
const sumSuffix = ".sha256"

const maxSums = 64 << 10

// ReadSums reads what sha256sum prints.
func ReadSums(r io.Reader) (Sums, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSums+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSums {
		return nil, fmt.Errorf("more than %d bytes of hashes", maxSums)
	}
	sums := Sums{}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		sum := strings.ToLower(f[0])
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size || len(f) > 2 {
			return nil, fmt.Errorf("line %d: %.80q is not a SHA-256 and a name", n, strings.TrimRight(line, "\n"))
		}
		name := ""
		if len(f) == 2 {
			name = path.Base(strings.TrimPrefix(f[1], "*"))
		}
		sums[name] = sum
	}
	if len(sums) == 0 {
		return nil, errors.New("no hash in it")
	}
	return sums, nil
}

// BuiltSums are those that were built into stage 1; none in one that was built
// without a stage 2.
func BuiltSums() (Sums, error) {
	f, err := os.Open(SumFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := ReadSums(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", SumFile, err)
	}
	return s, nil
}

func (s Sums) has(sum string) bool {
	for _, one := range s {
		if one == sum {
			return true
		}
	}
	return false
}

// ErrForeign is an image that was not built with this stage 1.
var ErrForeign = errors.New("is not the stage 2 that was built with this stage 1")

// judge looks at what came before anybody mounts it.
func (c Config) judge(ctx context.Context, srv files, name string, part *os.File) (Image, error) {
	st, err := part.Stat()
	if err != nil {
		return Image{}, err
	}
	kind, want, err := KindOf(part)
	if err != nil {
		return Image{}, err
	}
	if st.Size() < want {
		return Image{}, fmt.Errorf("half a file: %d bytes, and by its own word the image has %d", st.Size(), want)
	}
	sum, err := sumOf(part)
	if err != nil {
		return Image{}, err
	}
	img := Image{URL: srv.url(name), Bytes: st.Size(), Kind: kind, SHA256: sum}
	if c.Sums.has(sum) {
		return img, nil
	}
	if len(c.Sums) > 0 && !c.Unsigned {
		return img, fmt.Errorf("%w (SHA-256 %s): build both with make image, or add ka.unsigned to the boot line to run it all the same", ErrForeign, sum)
	}
	c.Say("nobody vouches for " + img.URL + ": it was not built with this stage 1")
	return img, c.beside(ctx, srv, name, sum)
}

func sumOf(f *os.File) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return "", fmt.Errorf("read the image: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// beside compares with the hash file that the server may have. It shows what
// was damaged, not what was forged.
func (c Config) beside(ctx context.Context, srv files, name, sum string) error {
	rc, _, _, err := srv.open(ctx, name+sumSuffix, 0)
	if err != nil {
		return nil // most servers have none
	}
	defer rc.Close()
	sums, err := ReadSums(rc)
	if err != nil {
		c.Say(fmt.Sprintf("%s: %v", srv.url(name+sumSuffix), err))
		return nil
	}
	if !sums.has(sum) {
		return fmt.Errorf("is damaged: its SHA-256 is %s, which is not in %s", sum, srv.url(name+sumSuffix))
	}
	c.Say("SHA-256 as in " + srv.url(name+sumSuffix))
	return nil
}
