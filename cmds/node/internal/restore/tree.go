// Package restore turns the pieces that a node receives into files, or into
// one image. It is the sink at a node's end of the chain, on an ordinary host
// (karecv) as well as in stage 2. It isn't the chain, which checks the hash
// of a piece before it comes here, and it makes no file system: the root's
// are mounted already.
//
//	manifest pieces ─▶ Decode ─▶ directories (0700) ─┐
//	contents pieces ──────────── write, attributes ──┤─▶ Finish: patched files,
//	patch pieces ─▶ spool files ─────────────────────┘   devices, links, directories'
//	image pieces ─▶ Image                                attributes, flags, syncfs
//
// A manifest is not trusted: everything is done relative to held directories
// below the root, no symbolic link is ever followed, and a directory is only
// what the manifest says is one.
package restore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// maxManifest bounds the manifest, which is held in memory: 20 million
// entries have about that.
const maxManifest = 1 << 30

// Options are the ways to restore a tree; the zero value works.
type Options struct {
	Workers int           // goroutines of Finish; 0: one more than processors, at least 4
	Wait    time.Duration // how long contents wait for the directories before ErrNotYet; 0: 5 s
	Log     *slog.Logger  // nil: none
	// Update: the directory holds an older tree. What of it is still right is
	// kept (Held), and what isn't golden's is removed as soon as the manifest
	// is there.
	Update bool
}

// Tree is the sink of a manifest and its contents.
type Tree struct {
	// config
	path               string
	opt                Options
	root               int
	manifest, contents wire.Stream
	privileged         bool // may give files away and make devices

	// state of the manifest
	mu    sync.Mutex
	buf   []byte
	seen  []bool // pieces of the manifest
	lacks uint32
	grace time.Time     // until then contents wait for the manifest
	ready chan struct{} // closed when the directories are made, or can't be
	err   error         // why not

	// state of the contents; set before ready is closed
	m      *stream.Manifest
	segs   []stream.Segment
	got    []atomic.Bool // pieces of the contents that were Put
	told   []atomic.Bool // those that Held has told of
	made   []bool        // by entry: the file was created or kept; under its lock
	old    []bool        // by entry: was there before, may have attributes of its own
	left   []int64       // by entry: bytes to come; atomic
	locks  [64]sync.Mutex
	mounts []int32 // directories that begin a file system
	taken  []int32 // directories that were there already
	coarse bool    // a file system that isn't exact about times is among them

	patches []*patch          // under mu
	latest  map[int32]which   // by entry; made by Finish
	parts   map[int32][]which // by entry, in order; made by Finish

	skipped  sync.Map // entries that this file system can't hold, which are named
	warnings warnings
}

// NewTree prepares to restore the tree that streams announce below root, a
// directory. Behind the tree's own two there may be patches already, for who
// comes late.
func NewTree(root string, streams []wire.Stream, opt Options) (*Tree, error) {
	if opt.Workers <= 0 {
		opt.Workers = max(4, runtime.GOMAXPROCS(0)+1)
	}
	if opt.Wait <= 0 {
		opt.Wait = 5 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tree{path: root, opt: opt, ready: make(chan struct{}), latest: map[int32]which{}, parts: map[int32][]which{}, privileged: os.Geteuid() == 0}
	if err := t.takeStreams(streams[:min(2, len(streams))]); err != nil {
		return nil, err
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root %s: %w", root, err)
	}
	t.root = fd
	if err := t.Grow(streams); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Tree) takeStreams(streams []wire.Stream) error {
	if len(streams) != 2 {
		return fmt.Errorf("restore tree: %d streams, want manifest and contents", len(streams))
	}
	for _, s := range streams {
		if err := checkStream(s); err != nil {
			return err
		}
		switch {
		case s.ID == stream.ManifestID && s.Kind == wire.ManifestStream:
			t.manifest = s
		case s.ID == stream.ContentsID && s.Kind == wire.ContentsStream:
			t.contents = s
		default:
			return fmt.Errorf("restore tree: stream %d of kind %q", s.ID, s.Kind)
		}
	}
	if t.manifest.Kind == "" || t.contents.Kind == "" {
		return errors.New("restore tree: one stream came twice")
	}
	if t.manifest.Bytes == 0 || t.manifest.Bytes > maxManifest {
		return fmt.Errorf("restore tree: manifest of %d bytes, at most %d", t.manifest.Bytes, maxManifest)
	}
	t.seen, t.lacks = make([]bool, t.manifest.Pieces), t.manifest.Pieces
	t.got = make([]atomic.Bool, t.contents.Pieces)
	t.told = make([]atomic.Bool, t.contents.Pieces)
	return nil
}

// checkStream refuses an announcement that contradicts itself.
func checkStream(s wire.Stream) error {
	if s.PieceSize == 0 || s.PieceSize > wire.MaxPieceSize || s.Pieces > wire.MaxPieces || s.Bytes < 0 {
		return fmt.Errorf("stream %d: %d pieces of %d bytes, %d in all", s.ID, s.Pieces, s.PieceSize, s.Bytes)
	}
	if size := int64(s.PieceSize); int64(s.Pieces) != s.Bytes/size+min(1, s.Bytes%size) {
		return fmt.Errorf("stream %d: %d pieces of %d bytes for %d bytes", s.ID, s.Pieces, s.PieceSize, s.Bytes)
	}
	return nil
}

// checkPiece refuses a piece that the stream doesn't have.
func checkPiece(s wire.Stream, piece uint32, n int) error {
	if piece >= s.Pieces {
		return fmt.Errorf("%s piece %d: the stream has %d", s.Kind, piece, s.Pieces)
	}
	if n != s.Len(piece) {
		return fmt.Errorf("%s piece %d: %d bytes, want %d", s.Kind, piece, n, s.Len(piece))
	}
	return nil
}

// Put takes a piece. A piece that comes again is written again.
func (t *Tree) Put(id uint16, piece uint32, data []byte) error {
	switch id {
	case t.manifest.ID:
		return t.putManifest(piece, data)
	case t.contents.ID:
		return t.putContents(piece, data)
	}
	if s := t.spooled(id); s != nil {
		return s.put(piece, data)
	}
	return fmt.Errorf("put piece %d: no stream %d", piece, id)
}

func (t *Tree) putManifest(piece uint32, data []byte) error {
	if err := checkPiece(t.manifest, piece, len(data)); err != nil {
		return err
	}
	if !t.addManifest(piece, data) {
		return nil
	}
	t.err = t.begin()
	close(t.ready)
	return t.err
}

// addManifest keeps the piece and says whether it was the last that lacked.
func (t *Tree) addManifest(piece uint32, data []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[piece] {
		return false
	}
	if t.buf == nil {
		t.buf = make([]byte, t.manifest.Bytes)
	}
	copy(t.buf[int64(piece)*int64(t.manifest.PieceSize):], data)
	t.seen[piece] = true
	t.lacks--
	return t.lacks == 0
}

// begin decodes the manifest, and only when all of it is right makes the
// directories.
func (t *Tree) begin() error {
	m, err := stream.Decode(t.buf)
	t.buf = nil
	if err != nil {
		return err
	}
	if m.Contents != t.contents.Bytes {
		return fmt.Errorf("manifest: contents are %d bytes, %d are announced", m.Contents, t.contents.Bytes)
	}
	if t.segs, err = m.Segments(); err != nil {
		return err
	}
	t.m = m
	t.made = make([]bool, len(m.Entries))
	t.left = make([]int64, len(m.Entries))
	for i := range m.Entries {
		t.left[i] = m.Entries[i].DataLen()
	}
	t.old = make([]bool, len(m.Entries))
	if err := t.makeDirs(); err != nil {
		return err
	}
	for _, i := range t.taken {
		t.old[i] = true
	}
	if t.opt.Update {
		return t.look()
	}
	return nil
}

// manifestGrace is how long the first contents wait for the last pieces of the
// manifest, which may be with other goroutines yet. Who came late, and will
// not have it before the next lap, waits so long once.
const manifestGrace = 250 * time.Millisecond

// await waits a moment for the directories.
func (t *Tree) await() error {
	select {
	case <-t.ready:
		return t.err
	default:
	}
	if done, err := t.awaitFor(t.graceLeft()); done {
		return err
	}
	t.mu.Lock()
	lacks := t.lacks
	t.mu.Unlock()
	if lacks == 0 {
		if done, err := t.awaitFor(t.opt.Wait); done {
			return err
		}
	}
	return chain.ErrNotYet
}

func (t *Tree) awaitFor(d time.Duration) (done bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.ready:
		return true, t.err
	case <-timer.C:
		return false, nil
	}
}

// graceLeft is what is left of the grace, which begins with the first call.
func (t *Tree) graceLeft() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grace.IsZero() {
		t.grace = time.Now().Add(manifestGrace)
	}
	return max(0, time.Until(t.grace))
}

// ReadPiece reads a piece back from the manifest or the files, so that what is
// on the disk can be hashed. Call it after Finish. ErrReplaced: the piece isn't
// on the disk any more, and shall not be.
func (t *Tree) ReadPiece(id uint16, piece uint32, buf []byte) error {
	if err := t.await(); err != nil {
		return err
	}
	if p := t.spooled(id); p != nil {
		return t.readBack(p, piece, buf)
	}
	s := t.contents
	if id == t.manifest.ID {
		s = t.manifest
	} else if id != s.ID {
		return fmt.Errorf("read piece %d: no stream %d", piece, id)
	}
	if err := checkPiece(s, piece, len(buf)); err != nil {
		return err
	}
	off := int64(piece) * int64(s.PieceSize)
	if id == t.manifest.ID {
		copy(buf, t.m.Encoded()[off:])
		return nil
	}
	for i := stream.FindSegment(t.segs, off); i < len(t.segs) && t.segs[i].Off < off+int64(len(buf)); i++ {
		if _, ok := t.latest[t.segs[i].Entry]; ok {
			return ErrReplaced
		}
	}
	return t.readFiles(t.segs, off, buf)
}

func (t *Tree) readFiles(segs []stream.Segment, off int64, buf []byte) error {
	short := int32(-1)
	err := stream.ReadContents(t.root, t.m, segs, off, buf, func(i int32) { short = i })
	if err == nil && short >= 0 {
		err = fmt.Errorf("read %s: shorter than it was written", t.name(short))
	}
	return err
}

// name is how messages call an entry.
func (t *Tree) name(i int32) string { return t.path + "/" + t.m.Path(i) }

// Close lets go of the root and of the patches. Nothing may be running then.
func (t *Tree) Close() error {
	if t.root < 0 {
		return nil
	}
	err := unix.Close(t.root)
	t.root = -1
	for _, p := range t.patches {
		p.close()
	}
	if err != nil {
		return fmt.Errorf("close root %s: %w", t.path, err)
	}
	return nil
}
