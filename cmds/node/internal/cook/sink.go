package cook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kamethod/kamethod/cmds/node/internal/restore"
	"github.com/kamethod/kamethod/golden/archive"
	"github.com/kamethod/kamethod/golden/wire"
)

// Options of a Sink.
type Options struct {
	Root   string // folder to mount the plan's mounts under
	Memory int64  // bytes that may wait for their turn
	Say    func(string)
	Log    *slog.Logger
}

// Sink writes all copies of a plan (chain.Sink).
type Sink struct {
	opt    Options
	mounts []wire.Mount // devices are this machine's
	below  below
	pantry *pantry
	ctx    context.Context // of all that cooks
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	dishes []*dish

	mu      sync.Mutex // taken before the pantry's
	open    int        // devices that don't have all yet
	mounted bool       // the plan's mounts are there
	err     error

	tabled bool // what goes below the mounts can be written; under the pantry's lock
}

// dish is one copy.
type dish struct {
	place
	s     wire.Stream
	image *restore.Image // as it is; nil: cooked, or its mount isn't there yet
	left  uint32         // pieces that haven't come, as it is only; under the pantry's lock
	got   []uint64       // those that have, a bit each; as left
	feed  *feed          // cooked
	done  chan struct{}  // is closed when it is written
	after []*dish        // those in the same folder are unpacked one after the other

	hidden  sync.Once // a device, as it is: its beginning is zeros
	hideErr error
	start   []byte // what belongs there; as left
}

var errClosed = errors.New("ended")

// Check finds the place of every copy and changes nothing.
func Check(plan wire.Plan, root string, say func(string)) error {
	_, _, err := places(plan, root, say)
	return err
}

// New begins to take what the streams announce. It ends with ctx, or Close.
func New(ctx context.Context, plan wire.Plan, streams []wire.Stream, opt Options) (*Sink, error) {
	if len(streams) != len(plan.Copies) {
		return nil, fmt.Errorf("golden sends %d streams for %d copies", len(streams), len(plan.Copies))
	}
	all, mounts, err := places(plan, opt.Root, func(string) {}) // Check has said what there is to say
	if err != nil {
		return nil, err
	}
	s := &Sink{opt: opt, mounts: mounts, pantry: newPantry(opt.Memory)}
	for i, st := range streams {
		if int(st.ID) != i || st.Kind != wire.ImageStream {
			return nil, fmt.Errorf("stream %d is of kind %q and number %d", i, st.Kind, st.ID)
		}
		c := plan.Copies[i]
		if !c.Cooked() && st.Bytes != c.Bytes {
			return nil, fmt.Errorf("%s has %d bytes, and %d are announced", c.From, c.Bytes, st.Bytes)
		}
		d := &dish{place: all[i], s: st, left: st.Pieces, done: make(chan struct{})}
		if !c.Cooked() {
			d.got = make([]uint64, (int(st.Pieces)+63)/64)
		} else {
			d.feed = newFeed(s.pantry, st)
			d.feed.waitsHere = func() bool { return s.allHere(d) }
			for _, o := range s.dishes {
				if o.feed != nil && overlap(o.path, d.path) {
					d.after = append(d.after, o)
				}
			}
		}
		if d.device {
			s.open++
		}
		s.dishes = append(s.dishes, d)
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	context.AfterFunc(s.ctx, func() { s.pantry.close(errClosed) })
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func overlap(a, b string) bool {
	return strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/")
}

// begin opens what can be, and lets the cooks begin that can.
func (s *Sink) begin() error {
	for _, d := range s.dishes {
		if d.feed == nil && !d.below {
			if err := s.openImage(d); err != nil {
				return err
			}
		}
		if d.feed != nil && !d.below {
			s.cook(d)
		}
	}
	for _, d := range s.dishes {
		if d.feed == nil && !d.below && d.s.Pieces == 0 {
			if err := s.finishImage(d); err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == 0 && !s.mounted {
		return s.mount()
	}
	return nil
}

func (s *Sink) openImage(d *dish) error {
	at, held, err := s.target(d)
	if err != nil {
		return fmt.Errorf("%s: %w", d.To, err)
	}
	defer held.Close()
	if d.image, err = restore.NewImage(at, d.s); err != nil {
		return fmt.Errorf("%s: %w", d.To, err)
	}
	s.opt.Say(fmt.Sprintf("writing %s to %s", d.From, d.path))
	return nil
}

// target is the name under which a file or device is opened, while held is
// open.
func (s *Sink) target(d *dish) (at string, held io.Closer, err error) {
	if d.below {
		f, at, err := s.below.file(d.To)
		return at, f, err
	}
	if !d.device {
		err = os.MkdirAll(filepath.Dir(d.path), 0o755)
	}
	return d.path, io.NopCloser(nil), err
}

// Put takes a piece.
func (s *Sink) Put(stream uint16, piece uint32, data []byte) error {
	if int(stream) >= len(s.dishes) {
		return fmt.Errorf("put piece %d: no stream %d", piece, stream)
	}
	d := s.dishes[stream]
	if piece >= d.s.Pieces || len(data) != d.s.Len(piece) {
		return fmt.Errorf("put piece %d of %s: %d bytes", piece, d.From, len(data))
	}
	if d.feed != nil {
		return d.feed.put(piece, data)
	}
	if d.below {
		if err := s.awaitMounts(d); err != nil {
			return err
		}
	}
	if err := s.write(d, piece, data); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return s.note(d, piece)
}

// note notes that a piece is written. What is left to do after the last one
// goes on by itself: a slow disk may take longer for it than a piece may.
func (s *Sink) note(d *dish, piece uint32) error {
	s.pantry.mu.Lock()
	defer s.pantry.mu.Unlock()
	if s.pantry.closed != nil {
		return s.pantry.closed
	}
	s.pantry.news.Broadcast()
	w, bit := &d.got[piece/64], uint64(1)<<(piece%64)
	if *w&bit != 0 {
		return nil
	}
	*w |= bit
	if d.left--; d.left > 0 {
		return nil
	}
	s.tasks.Go(func() {
		if err := s.finishImage(d); err != nil {
			s.fail(err)
		}
	})
	return nil
}

// fail ends all, with the first error.
func (s *Sink) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	err = s.err
	s.mu.Unlock()
	s.pantry.close(err)
}

// awaitMounts waits until what goes below the mounts can be written.
func (s *Sink) awaitMounts(d *dish) error {
	s.pantry.mu.Lock()
	defer s.pantry.mu.Unlock()
	return s.pantry.await(func() bool { return s.tabled }, func() bool { return s.allHere(d) })
}

// allHere tells whether that which has to be written before d has all its
// pieces; the pantry's lock is held.
func (s *Sink) allHere(d *dish) bool {
	for _, o := range s.dishes {
		before := d.below && o.device || slices.Contains(d.after, o)
		if before && o.feed == nil && o.left > 0 || before && o.feed != nil && !o.feed.whole() {
			return false
		}
	}
	return true
}

// cook begins to write what comes cooked. It ends when all is written, or with
// the pantry.
func (s *Sink) cook(d *dish) {
	s.opt.Say(fmt.Sprintf("unpacking %s to %s", d.From, d.path))
	s.tasks.Go(func() {
		defer d.feed.leave()
		err := s.prepare(d)
		if err == nil {
			err = s.served(d)
		}
		if err != nil {
			s.fail(fmt.Errorf("%s to %s: %w", d.From, d.path, err))
		}
	})
}

func (s *Sink) prepare(d *dish) error {
	for _, o := range d.after {
		select {
		case <-o.done:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	r, err := archive.Decompress(d.feed, d.Packing)
	if err != nil {
		return err
	}
	defer r.Close()
	if d.Archive == "" {
		return s.pour(d, r)
	}
	if !d.below {
		return unpack(r, d.Archive, d.path, d.FarLinks, d.Bytes)
	}
	dir, err := s.below.folder(d.To)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unpack(r, d.Archive, fdPath(dir), d.FarLinks, d.Bytes)
}

// pour writes one file or device.
func (s *Sink) pour(d *dish, r io.Reader) (err error) {
	flags := os.O_WRONLY
	if !d.device {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	at, held, err := s.target(d)
	if err != nil {
		return err
	}
	defer held.Close()
	f, err := os.OpenFile(at, flags, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r = io.LimitReader(r, d.Bytes+1)
	var start []byte
	if d.device {
		if start, err = hideStart(f, r); err != nil {
			return err
		}
	}
	buf := make([]byte, 1<<20) // a disk takes large pieces better
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, r, buf)
	if err != nil {
		return err
	}
	if n += int64(len(start)); n != d.Bytes {
		return fmt.Errorf("unpacked it has another size than golden saw: %d bytes, %d were expected", n, d.Bytes)
	}
	if err := f.Sync(); err != nil || !d.device {
		return err
	}
	return showStart(f, start)
}

// Close ends all; what isn't whole stays as it is, a device without its
// beginning.
func (s *Sink) Close() error {
	s.cancel()
	s.pantry.close(errClosed)
	s.tasks.Wait()
	for _, d := range s.dishes {
		if d.image != nil {
			_ = d.image.Close() // twice, where it is whole
		}
	}
	return nil
}
