package restore

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// chainLab is a head and its nodes, over loopback TCP.
type chainLab struct {
	t      *testing.T
	ctx    context.Context
	head   *chain.Head
	mu     sync.Mutex
	orders map[uint32]chan wire.LinkOrder
	wg     sync.WaitGroup
}

func newChainLab(t *testing.T, src chain.Source) *chainLab {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	l := &chainLab{t: t, ctx: ctx, orders: map[uint32]chan wire.LinkOrder{}}
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	l.head = &chain.Head{Transfer: wire.TransferID{7}, Source: src, Identity: id, Ring: 4 << 20, Log: slog.New(slog.DiscardHandler),
		Tell: func(n uint32, o wire.LinkOrder) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.orders[n] <- o
		}}
	l.head.Start()
	t.Cleanup(func() { cancel(); l.wg.Wait() })
	return l
}

// add lets a node take part that restores into a directory.
func (l *chainLab) add(n uint32, streams []wire.Stream, tree *Tree) {
	var holder chain.Holder
	if tree.opt.Update {
		holder = tree
	}
	l.join(n, streams, tree, holder)
}

// join lets a node take part that has any sink.
func (l *chainLab) join(n uint32, streams []wire.Stream, sink chain.Sink, holder chain.Holder) {
	id, err := trust.New()
	if err != nil {
		l.t.Error(err)
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Error(err)
		return
	}
	reports := make(chan wire.LinkReport, 10000)
	link := &chain.Link{Transfer: l.head.Transfer, Self: n, Streams: streams, Identity: id, Sink: sink, Holder: holder, Ring: 4 << 20,
		Log: slog.New(slog.DiscardHandler), Tell: func(r wire.LinkReport) { reports <- r }}
	if err := link.Start(); err != nil {
		l.t.Error(err)
		return
	}
	orders, ended := make(chan wire.LinkOrder, 1000), make(chan struct{})
	l.mu.Lock()
	l.orders[n] = orders
	l.mu.Unlock()
	// Before the link runs: the head drops what strangers report.
	l.head.Join(chain.Member{ID: n, Addr: ln.Addr().String(), Pin: id.Pin, Queue: link.Queue, Holds: link.Holder != nil})
	l.wg.Go(func() {
		defer close(ended)
		if err := link.Run(l.ctx, ln); err != nil {
			l.t.Errorf("node %d: %v", n, err)
		}
	})
	l.wg.Go(func() {
		for {
			select {
			case o := <-orders:
				link.Order(o)
			case r := <-reports:
				l.head.Report(n, r)
			case <-ended:
				return
			}
		}
	})
}

// TestChain clones a tree that is written to all the time through a real
// chain: to an empty node, to one that has an older clone, and to one that
// comes late.
func TestChain(t *testing.T) {
	tmp := t.TempDir()
	from := filepath.Join(tmp, "from")
	names := liveTree(t, from)
	if err := os.WriteFile(from+"/large", noise(1, 30_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := []string{filepath.Join(tmp, "a"), filepath.Join(tmp, "b"), filepath.Join(tmp, "c")}
	for _, d := range dirs {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	clone(t, stream.ScanOptions{Root: from}, dirs[1], 1)
	var wrote atomic.Int64
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- churn(from, names, stop, &wrote)
	}()
	awaitChurn(t, &wrote, 50) // so that the older clone is older
	src, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	src.Spool = tmp
	base := src.Streams()
	var trees []*Tree
	for i, d := range dirs {
		tree, err := NewTree(d, base, Options{Update: i == 1})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		trees = append(trees, tree)
	}
	l := newChainLab(t, slowSource{src})
	l.add(1, base, trees[0])
	l.add(2, base, trees[1])
	l.head.Expect(1)
	l.wg.Go(func() {
		for l.head.Progress().Sent < 16<<20 && l.ctx.Err() == nil { // more than the rings hold
			time.Sleep(10 * time.Millisecond)
		}
		l.add(3, base, trees[2])
		l.head.Expect(-1)
	})
	out, err := l.head.Run(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	l.wg.Wait()
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for i, tree := range trees {
		if o := out[uint32(i+1)]; !o.Complete {
			t.Fatalf("node %d: %+v", i+1, o)
		}
		if err := tree.Finish(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	p := l.head.Progress()
	t.Logf("laps %d, sent %d, kept %d, %d streams, torn %q", p.Lap, p.Sent, p.Kept, len(src.Streams()), src.Torn())
	if p.Lap < 2 {
		t.Error("who came late was sent nothing in a lap of its own")
	}
	// The late one has later versions of what changed after the others were complete.
	judgeVersions(t, src.Torn(), dirs[:2]...)
	judgeVersions(t, src.Torn(), dirs[2])
	if hashFile(t, from+"/large") != hashFile(t, dirs[2]+"/large") {
		t.Error("large differs")
	}
}

// slowSource is a source that takes as long as a disk.
type slowSource struct{ *stream.Tree }

func (s slowSource) ReadPiece(id uint16, piece uint32, buf []byte) error {
	time.Sleep(20 * time.Millisecond)
	return s.Tree.ReadPiece(id, piece, buf)
}

func hashFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestChainUpdate: two nodes that have an older clone are sent what differs.
func TestChainUpdate(t *testing.T) {
	tmp := t.TempDir()
	from := filepath.Join(tmp, "from")
	liveTree(t, from)
	if err := os.WriteFile(from+"/large", noise(1, 30_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := []string{filepath.Join(tmp, "a"), filepath.Join(tmp, "b")}
	for _, d := range dirs {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		clone(t, stream.ScanOptions{Root: from}, d, 1)
	}
	f, err := os.OpenFile(from+"/large", os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("changed"), 12_345_678)
		err = errors.Join(err, f.Close(), os.Remove(from+"/d0/still4"), os.WriteFile(from+"/d3/new", []byte("new"), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	src, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	l := newChainLab(t, src)
	var trees []*Tree
	for i, d := range dirs {
		tree, err := NewTree(d, src.Streams(), Options{Update: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		trees = append(trees, tree)
		l.add(uint32(i+1), src.Streams(), tree)
	}
	out, err := l.head.Run(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	l.wg.Wait()
	p := l.head.Progress()
	t.Logf("laps %d, sent %d, kept %d", p.Lap, p.Sent, p.Kept)
	if p.Sent > 4<<20 || p.Kept < 28<<20 {
		t.Errorf("sent %d, kept %d of %d", p.Sent, p.Kept, p.Bytes)
	}
	for i, tree := range trees {
		if o := out[uint32(i+1)]; !o.Complete {
			t.Fatalf("node %d: %+v", i+1, o)
		}
		if err := tree.Finish(context.Background()); err != nil {
			t.Fatal(err)
		}
		if out := command(t, "/", "rsync", "-aHAXSn", "--checksum", "--delete", "-i", from+"/", dirs[i]+"/"); out != "" {
			t.Errorf("rsync sees differences:\n%s", out)
		}
	}
}
