package cook

import (
	"io"
	"slices"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/wire"
)

// pantry is the memory in which pieces wait that came before their turn. All
// feeds share it.
type pantry struct {
	mu     sync.Mutex
	news   *sync.Cond
	held   int64 // bytes
	limit  int64
	closed error // why nothing is fed any more
}

func newPantry(limit int64) *pantry {
	p := &pantry{limit: limit}
	p.news = sync.NewCond(&p.mu)
	return p
}

func (p *pantry) close(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == nil {
		p.closed = why
	}
	p.news.Broadcast()
}

// maxWait is how long a piece may be kept from its place: half of what a node
// may get nowhere before package chain cuts it out (Head.Patience).
const maxWait = 30 * time.Second

// await waits until ok says so; the lock is held. A piece that can't be taken
// now shall come again if that hangs on other pieces, which come only when this
// one is out of the way; may says whether it doesn't.
func (p *pantry) await(ok, may func() bool) error {
	var late bool
	var alarm *time.Timer
	defer func() {
		if alarm != nil {
			alarm.Stop()
		}
	}()
	for {
		switch {
		case p.closed != nil:
			return p.closed
		case ok():
			return nil
		case late || !may():
			return chain.ErrNotYet
		}
		if alarm == nil {
			alarm = time.AfterFunc(maxWait, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				late = true
				p.news.Broadcast()
			})
		}
		p.news.Wait()
	}
}

// feed is one stream, put together again: an io.Reader of its bytes.
type feed struct {
	p       *pantry
	s       wire.Stream
	waiting map[uint32][]byte
	next    uint32 // the first piece that wasn't taken
	eating  bool   // somebody reads
	over    bool   // nobody will any more
	// waitsHere: what has to be written before has all its pieces
	waitsHere func() bool
	rest      []byte // of the piece before next
}

func newFeed(p *pantry, s wire.Stream) *feed {
	return &feed{p: p, s: s, waiting: map[uint32][]byte{}, waitsHere: func() bool { return true }}
}

// put takes a piece. It waits for room while somebody eats who has something
// to eat, or while whom he waits for has all that he needs.
func (f *feed) put(piece uint32, data []byte) error {
	p := f.p
	p.mu.Lock()
	defer p.mu.Unlock()
	known := func() bool {
		_, twice := f.waiting[piece]
		return f.over || twice || piece < f.next
	}
	room := func() bool { return piece == f.next || p.held+int64(len(data)) <= p.limit }
	err := p.await(func() bool { return known() || room() }, func() bool {
		if f.eating {
			_, ready := f.waiting[f.next]
			return ready
		}
		return f.waitsHere()
	})
	if err != nil || known() {
		return err
	}
	f.waiting[piece] = slices.Clone(data)
	p.held += int64(len(data))
	p.news.Broadcast()
	return nil
}

// whole tells whether all pieces are here; the lock is held.
func (f *feed) whole() bool { return f.over || int(f.next)+len(f.waiting) == int(f.s.Pieces) }

// Read gives the bytes in their order.
func (f *feed) Read(b []byte) (int, error) {
	if len(f.rest) == 0 {
		if err := f.take(); err != nil {
			return 0, err
		}
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *feed) take() error {
	p := f.p
	p.mu.Lock()
	defer p.mu.Unlock()
	f.eating = true
	for {
		if p.closed != nil {
			return p.closed
		}
		if f.next == f.s.Pieces {
			return io.EOF
		}
		if data, ok := f.waiting[f.next]; ok {
			delete(f.waiting, f.next)
			f.rest = data
			f.next++
			p.held -= int64(len(data))
			p.news.Broadcast()
			return nil
		}
		p.news.Wait()
	}
}

// leave ends the reading: what comes is dropped.
func (f *feed) leave() {
	p := f.p
	p.mu.Lock()
	defer p.mu.Unlock()
	f.over = true
	for _, data := range f.waiting {
		p.held -= int64(len(data))
	}
	f.waiting = nil
	p.news.Broadcast()
}
