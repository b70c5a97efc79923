package stream

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// BlockIDs are the numbers of the two streams of blocks n, from 0. They are
// above all that a tree has (PatchIDs).
func BlockIDs(n int) (blockMap, data uint16) {
	const first = 1 << 15
	return uint16(first + 2*n), uint16(first + 2*n + 1)
}

// IsBlocks says whether a stream of that number is of blocks, and which.
func IsBlocks(id uint16) (n int, ok bool) {
	first, _ := BlockIDs(0)
	return (int(id) - int(first)) / 2, id >= first
}

// Blocks is a source of two streams: the map of a device, and the data of its
// extents.
type Blocks struct {
	f       *os.File
	data    *BlockData
	encoded []byte
	streams [2]wire.Stream
	mark    string // what it was when it was opened
	digest  string

	mu  sync.Mutex
	bad []Extent // what the disk can't read
}

// OpenBlocks opens the file or device at path, blocks n of a plan, which knows
// them by name. The map is of how it is now.
func OpenBlocks(n int, path, name string, m BlockMap) (*Blocks, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open blocks of %s: %w", name, err)
	}
	b := &Blocks{f: f}
	if err := b.open(n, name, m); err != nil {
		f.Close()
		return nil, fmt.Errorf("open blocks of %s: %s: %w", name, path, err)
	}
	return b, nil
}

func (b *Blocks) open(n int, name string, m BlockMap) error {
	size, err := imageSize(b.f)
	if err != nil {
		return err
	}
	if size != m.Bytes {
		return fmt.Errorf("it has %d bytes, the map is of %d", size, m.Bytes)
	}
	if b.encoded, err = m.Encode(); err != nil {
		return err
	}
	if b.mark, err = markOf(b.f); err != nil {
		return err
	}
	b.data = NewBlockData(&m)
	id, data := BlockIDs(n)
	b.streams[0] = wire.NewStream(id, wire.BlockMapStream, int64(len(b.encoded)))
	b.streams[1] = wire.NewStream(data, wire.BlocksStream, b.data.Bytes())
	b.streams[0].Name, b.streams[1].Name = name, name
	h := blake3.New()
	fmt.Fprintf(h, "%q %q %s\n", b.f.Name(), name, b.mark)
	h.Write(b.encoded)
	b.digest = hex.EncodeToString(h.Sum(nil))
	return nil
}

// markOf names the state of a file or device: it is another one after each
// write. Of a device the kernel counts the writes, from its start on
// (Documentation/block/stat.rst: the 7th is sectors written; the 14th and
// later are discards, of which the 14th is sectors).
func markOf(f *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return fmt.Sprintf("%d %d %d %v %v", st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim), nil
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(stat))
	if len(words) < 7 {
		return "", fmt.Errorf("stat of the device: %q", stat)
	}
	mark := fmt.Sprintf("%s %d %s", strings.TrimSpace(string(boot)), st.Rdev, words[6])
	if len(words) > 13 {
		mark += " " + words[13]
	}
	return mark, nil
}

// Streams announces the map and the data.
func (b *Blocks) Streams() []wire.Stream { return b.streams[:] }

// ReadPiece fills buf with a piece. What the disk can't read (EIO) are zero
// bytes, and listed by Torn.
func (b *Blocks) ReadPiece(id uint16, piece uint32, buf []byte) error {
	s := b.streams[id%2]
	if s.ID != id {
		return fmt.Errorf("read piece %d of the blocks of %s: no stream %d", piece, s.Name, id)
	}
	off, err := pieceRange(s, piece, len(buf))
	if err != nil {
		return err
	}
	if s.Kind == wire.BlockMapStream {
		copy(buf, b.encoded[off:])
		return nil
	}
	return b.data.Each(off, buf, func(part []byte, at int64) error {
		n, err := preadFull(int(b.f.Fd()), part, at)
		if errors.Is(err, unix.EIO) {
			n, err = preadAround(int(b.f.Fd()), part, at, b.unreadable)
		}
		if err == nil && n < len(part) {
			err = io.ErrUnexpectedEOF // it is shorter than it was
		}
		if err != nil {
			return fmt.Errorf("read %s at %d: %w", b.f.Name(), at, err)
		}
		return nil
	})
}

func (b *Blocks) unreadable(x Extent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = addExtent(b.bad, x)
}

// Torn tells what isn't sent as it should be; none is good.
func (b *Blocks) Torn() []string {
	var out []string
	b.mu.Lock()
	bad := b.bad
	b.mu.Unlock()
	if len(bad) > 0 {
		out = append(out, b.f.Name()+": "+badRanges(bad))
	}
	if now, err := markOf(b.f); err != nil {
		out = append(out, fmt.Sprintf("%s: %v", b.f.Name(), err))
	} else if now != b.mark {
		out = append(out, b.f.Name()+": was written to while its blocks were sent: unmount it, or mount it read-only")
	}
	return out
}

// Digest names what is sent: it is the same as long as nothing is written to
// the file or device, and the kernel hasn't been started again.
func (b *Blocks) Digest() string { return b.digest }

// Name is the file's or device's.
func (b *Blocks) Name() string { return b.f.Name() }

// Close closes the file.
func (b *Blocks) Close() error { return b.f.Close() }
