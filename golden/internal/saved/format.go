package saved

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/wire"
)

// Format is the number of this format. It rises with every change that an older
// reader would get wrong; a reader refuses what it doesn't know.
const Format = 1

// Sizes of the parts of an image's manifest, in bytes.
const (
	magic      = "kaimage\n"
	headerSize = len(magic) + 2 + 2 + 4 + 4
	refSize    = 32 + 4 + 4
	hashSize   = 32
)

// What a manifest may have at most: the description is a plan, some names and
// what is torn; so many pieces are 12 TiB.
const (
	maxAbout = 64 << 20
	maxRefs  = 1 << 24
)

// MaxPiece is how long a saved piece can be, in bytes.
const MaxPiece = 4 << 20

// maxManifest bounds the manifest of a tree, as the nodes do: 20 million
// entries have about that.
const maxManifest = 1 << 30

// heldWhole are the streams that are read into memory whole.
func heldWhole(k wire.StreamKind) bool {
	return k == wire.ManifestStream || k == wire.PatchManifestStream || k == wire.BlockMapStream
}

// About is what a manifest says of an image besides its pieces.
type About struct {
	Name    string    `json:"name"`
	Host    string    `json:"host,omitempty"` // that it was saved on
	Root    string    `json:"root"`           // "/", or the folder that was saved
	Saved   time.Time `json:"saved"`
	Program string    `json:"program"` // that saved it, its version
	Wire    int       `json:"wire"`    // version of the protocol that the plan is of

	Plan  wire.Plan `json:"plan"` // without secrets, hooks and identity: those are the deployment's
	Facts Facts     `json:"facts"`
	Notes []string  `json:"notes,omitempty"`

	Verdict   string   `json:"verdict"` // as of a clone
	Reread    int      `json:"reread,omitempty"`
	MovedDirs int      `json:"moved_dirs,omitempty"`
	Torn      []string `json:"torn,omitempty"`

	Streams []Stream `json:"streams"`
}

// Facts is what a boot loader needs of the saved files, so that another one
// can be chosen when they are deployed.
type Facts struct {
	GRUB   []string `json:"grub,omitempty"`   // platforms that it has GRUB for: "i386-pc"
	Loader string   `json:"loader,omitempty"` // that it has
	Kernel bool     `json:"kernel"`           // there is one to start
}

// Stream is one of an image: its pieces as the chain counts them, and how many
// pieces of the store they are made of.
type Stream struct {
	wire.Stream
	Refs int `json:"refs"`
}

// Ref is a piece of the store in its place.
type Ref struct {
	Hash   wire.Hash // BLAKE3 of what is in it
	Len    uint32    // of that, in bytes
	Stored uint32    // of its file
}

// Image is a saved golden node.
type Image struct {
	About
	Refs []Ref  // of all streams, one after the other
	ID   string // of this manifest: the same bytes have the same
}

// encode makes the manifest.
//
//	offset  length  field
//	0       8       magic "kaimage\n"
//	8       2       format, little endian like all numbers: 1
//	10      2       zero
//	12      4       A, length of the description
//	16      4       N, number of pieces
//	20      A       description, JSON
//	20+A    40·N    pieces: hash 32, length 4, length of the file 4
//	...     32      BLAKE3 of all before
func (i *Image) encode() ([]byte, error) {
	about, err := json.Marshal(i.About)
	if err != nil {
		return nil, fmt.Errorf("encode image %s: %w", i.Name, err)
	}
	if len(about) > maxAbout || len(i.Refs) > maxRefs {
		return nil, fmt.Errorf("encode image %s: %d bytes of description and %d pieces, at most %d and %d", i.Name, len(about), len(i.Refs), maxAbout, maxRefs)
	}
	b := make([]byte, 0, headerSize+len(about)+refSize*len(i.Refs)+hashSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, Format)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(about)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(i.Refs)))
	b = append(b, about...)
	for _, r := range i.Refs {
		b = append(b, r.Hash[:]...)
		b = binary.LittleEndian.AppendUint32(b, r.Len)
		b = binary.LittleEndian.AppendUint32(b, r.Stored)
	}
	sum := blake3.Sum256(b)
	i.ID = hex.EncodeToString(sum[:])
	return append(b, sum[:]...), nil
}

// decode reads a manifest that is not trusted.
func decode(b []byte) (*Image, error) {
	about, refs, err := split(b)
	if err != nil {
		return nil, err
	}
	if err := checkWire(about); err != nil {
		return nil, err
	}
	i := &Image{ID: hex.EncodeToString(b[len(b)-hashSize:])}
	d := json.NewDecoder(bytes.NewReader(about))
	d.DisallowUnknownFields() // of a later program: what we don't know, clones would lack
	if err := d.Decode(&i.About); err != nil {
		return nil, fmt.Errorf("description: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("description: more than one value")
	}
	i.Refs = make([]Ref, 0, len(refs)/refSize)
	for r := range slices.Chunk(refs, refSize) {
		i.Refs = append(i.Refs, Ref{wire.Hash(r[:32]), binary.LittleEndian.Uint32(r[32:]), binary.LittleEndian.Uint32(r[36:])})
	}
	if err := i.check(); err != nil {
		return nil, err
	}
	return i, nil
}

// checkWire refuses a plan that nodes of this program would read in another
// way, before what it doesn't know of it is found.
func checkWire(about []byte) error {
	var of struct {
		Program string `json:"program"`
		Wire    int    `json:"wire"`
	}
	if err := json.Unmarshal(about, &of); err != nil {
		return fmt.Errorf("description: %w", err)
	}
	if of.Wire != wire.Version {
		return fmt.Errorf("its plan is of protocol version %d, this program speaks %d: it was saved by golden-serve %q; deploy it with that, or save it anew", of.Wire, wire.Version, of.Program)
	}
	return nil
}

// split finds the parts of a manifest, and compares its hash.
func split(b []byte) (about, refs []byte, err error) {
	if len(b) < headerSize+hashSize || string(b[:len(magic)]) != magic {
		return nil, nil, errors.New("is no manifest of a saved image")
	}
	if f := binary.LittleEndian.Uint16(b[8:]); f != Format {
		return nil, nil, fmt.Errorf("format %d, this program knows %d: it was saved by another version", f, Format)
	}
	a, n := uint64(binary.LittleEndian.Uint32(b[12:])), uint64(binary.LittleEndian.Uint32(b[16:]))
	if a > maxAbout || n > maxRefs {
		return nil, nil, fmt.Errorf("%d bytes of description and %d pieces, at most %d and %d", a, n, maxAbout, maxRefs)
	}
	if want := uint64(headerSize+hashSize) + a + n*refSize; uint64(len(b)) != want {
		return nil, nil, fmt.Errorf("%d bytes, its header says %d", len(b), want)
	}
	body := b[:len(b)-hashSize]
	if sum := blake3.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, nil, errors.New("is not what its hash says")
	}
	rest := body[headerSize:]
	return rest[:a], rest[a:], nil
}

// check refuses what contradicts itself.
func (i *Image) check() error {
	if err := checkName(i.Name); err != nil {
		return err
	}
	for _, r := range i.Refs {
		if r.Len == 0 || r.Len > MaxPiece || r.Stored == 0 || r.Stored > r.Len {
			return fmt.Errorf("piece %x of %d bytes, %d in its file: at most %d", r.Hash[:8], r.Len, r.Stored, MaxPiece)
		}
	}
	left := i.Refs
	seen := map[uint16]bool{}
	for _, s := range i.Streams {
		if seen[s.ID] {
			return fmt.Errorf("stream %d comes twice", s.ID)
		}
		seen[s.ID] = true
		if err := checkStream(s.Stream); err != nil {
			return err
		}
		if s.Refs < 0 || s.Refs > len(left) {
			return fmt.Errorf("stream %d has %d pieces, %d are left", s.ID, s.Refs, len(left))
		}
		var sum int64
		for _, r := range left[:s.Refs] {
			sum += int64(r.Len)
		}
		if sum != s.Bytes {
			return fmt.Errorf("stream %d has %d bytes, its pieces %d", s.ID, s.Bytes, sum)
		}
		left = left[s.Refs:]
	}
	if len(left) > 0 {
		return fmt.Errorf("%d pieces belong to no stream", len(left))
	}
	return nil
}

func checkStream(s wire.Stream) error {
	if s.PieceSize == 0 || s.PieceSize > wire.MaxPieceSize || s.Pieces > wire.MaxPieces || s.Bytes < 0 {
		return fmt.Errorf("stream %d: %d pieces of %d bytes", s.ID, s.Pieces, s.PieceSize)
	}
	if heldWhole(s.Kind) && s.Bytes > maxManifest {
		return fmt.Errorf("stream %d: a %s of %d bytes, at most %d", s.ID, s.Kind, s.Bytes, maxManifest)
	}
	if want := (s.Bytes + int64(s.PieceSize) - 1) / int64(s.PieceSize); want != int64(s.Pieces) {
		return fmt.Errorf("stream %d: %d pieces of %d bytes, want %d for %d bytes", s.ID, s.Pieces, s.PieceSize, want, s.Bytes)
	}
	return nil
}

// maxName is what an image's name has at most: with what is added it is one
// component of a path (linux/limits.h NAME_MAX: 255).
const maxName = 64

// checkName takes what is a file's name on every system.
func checkName(name string) error {
	bad := name == "" || len(name) > maxName || name[0] == '.' || name[0] == '-'
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		bad = bad || !letter && c != '.' && c != '_' && c != '-'
	}
	if bad {
		return fmt.Errorf("image name %q: want up to %d letters, digits, dots, hyphens and underscores, a letter or digit first", name, maxName)
	}
	return nil
}

// Bytes is how much the image is.
func (i *Image) Bytes() (n int64) {
	for _, s := range i.Streams {
		n += s.Bytes
	}
	return n
}
