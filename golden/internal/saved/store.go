package saved

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// Names in a store. What is in tmp is nothing yet.
const (
	markFile  = "kamethod-images"
	piecesDir = "pieces"
	imagesDir = "images"
	tmpDir    = "tmp"
	lockFile  = "lock"
	imageExt  = ".kaimage"
	zstdExt   = ".zst"
)

// mark is what the file of that name says.
var mark = fmt.Sprintf("kamethod images, format %d\n", Format)

// Store is a folder with saved images. It has shadow files and keys in it:
// nobody but its owner reads it.
type Store struct{ dir string }

// ErrNoStore is a folder in which nothing was ever saved.
var ErrNoStore = errors.New("open images")

// Open opens a store that is there.
func Open(dir string) (*Store, error) {
	b, err := readSmall(filepath.Join(dir, markFile), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoStore, err)
		}
		return nil, fmt.Errorf("%w: %s holds no saved images: it has no file %s", ErrNoStore, dir, markFile)
	}
	if err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	if string(b) != mark {
		return nil, fmt.Errorf("open images: %s: %q: this program knows %q", filepath.Join(dir, markFile), strings.TrimSpace(string(b)), strings.TrimSpace(mark))
	}
	return &Store{dir}, nil
}

// Create opens a store, and makes it where the folder is missing or empty.
func Create(dir string) (*Store, error) {
	if _, err := os.Lstat(filepath.Join(dir, markFile)); err == nil {
		return Open(dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for images: %w", err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("make a folder for images: %w", err)
	}
	for _, e := range list {
		if n := e.Name(); n != "lost+found" && !strings.HasPrefix(n, "."+markFile) {
			return nil, fmt.Errorf("make a folder for images: %s is not empty, and has %s: give an empty or a new one", dir, n)
		}
	}
	if err := renameio.WriteFile(filepath.Join(dir, markFile), []byte(mark), 0o600); err != nil {
		return nil, fmt.Errorf("make a folder for images: %w", err)
	}
	return &Store{dir}, nil
}

// Dir is where it is.
func (s *Store) Dir() string { return s.dir }

// lock keeps others from saving here, for as long as the file is open. The
// kernel gives it back when the process ends, whichever way.
func (s *Store) lock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.dir, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another golden-serve is saving there")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", s.dir, err)
	}
	return f, nil
}

// Free is an error where somebody saves there just now.
func (s *Store) Free() error {
	f, err := s.lock()
	if err != nil {
		return err
	}
	return f.Close()
}

// Names are those of the images that were saved whole, sorted.
func (s *Store) Names() ([]string, error) {
	list, err := os.ReadDir(filepath.Join(s.dir, imagesDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var names []string
	for _, e := range list {
		if n, ok := strings.CutSuffix(e.Name(), imageExt); ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Choose is the name that was given, if there is such an image, or that of the
// only one.
func (s *Store) Choose(name string) (string, error) {
	names, err := s.Names()
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", fmt.Errorf("%s holds no whole image: none was saved, or the saving was interrupted: golden-serve save %s goes on with what is there", s.dir, s.dir)
	case name == "" && len(names) > 1:
		return "", fmt.Errorf("%s holds %d images: name one: %s", s.dir, len(names), strings.Join(names, ", "))
	case name == "":
		return names[0], nil
	case !slices.Contains(names, name):
		return "", fmt.Errorf("%s holds no image %q: it has %s", s.dir, name, strings.Join(names, ", "))
	}
	return name, nil
}

// Load reads an image's manifest.
func (s *Store) Load(name string) (*Image, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	path := s.imagePath(name)
	const largest = headerSize + maxAbout + maxRefs*refSize + hashSize
	b, err := readSmall(path, int64(largest))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	i, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("image %s: %s: %w", name, path, err)
	}
	if i.Name != name {
		return nil, fmt.Errorf("image %s: %s: is of an image called %s", name, path, i.Name)
	}
	return i, nil
}

// readSmall reads a regular file that has at most so many bytes.
func readSmall(path string, most int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > most {
		return nil, fmt.Errorf("read %s: %s of %d bytes: want a file of at most %d", path, st.Mode().Type(), st.Size(), most)
	}
	return os.ReadFile(path)
}

func (s *Store) imagePath(name string) string { return filepath.Join(s.dir, imagesDir, name+imageExt) }

// piecePath is where a piece is, but for its ending.
func (s *Store) piecePath(h wire.Hash) string {
	name := hex.EncodeToString(h[:])
	return filepath.Join(s.dir, piecesDir, name[:2], name)
}
