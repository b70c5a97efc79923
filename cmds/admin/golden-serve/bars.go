package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/status"
)

// screen is a terminal. While something is sent there are bars at its end: one
// for all nodes, and one for each of those that are least far. What is logged
// scrolls by above them.
//
//	18:20:11 node is here node=3
//	sending the golden node  ████████░░░░░░░░░░   41 % lap 1, 112.4 MB/s
//	node 2 alpha             ███████░░░░░░░░░░░   38 %
//	node 3 beta              █████████░░░░░░░░░   47 %
type screen struct {
	w      io.Writer
	height int // lines of the terminal
	rate   rate
	said   map[int]status.State

	mu     sync.Mutex
	asking bool
	p      *mpb.Progress // nil: no bars
	bars   []*mpb.Bar
	rows   atomic.Pointer[[]row] // of the bars; who draws them has no lock
}

// row is what stands on a bar's line.
type row struct {
	left, right string
	share       int64 // of barWhole
}

const (
	barWhole  = 1000
	maxBars   = 16 // with the one for all
	restLines = 6  // of the terminal, for what is logged
	barEvery  = 250 * time.Millisecond
)

func newScreen(w io.Writer, height int) *screen {
	return &screen{w: w, height: height, said: map[int]status.State{}}
}

// Write prints above the bars.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p != nil {
		return s.p.Write(b)
	}
	return s.w.Write(b)
}

// watch is told of progress.
func (s *screen) watch(st golden.Status) {
	sayStates(s, s.said, st)
	rows := barRows(st, s.rate.of(st), min(maxBars, s.height-restLines))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking {
		return
	}
	s.rows.Store(&rows)
	if len(rows) != len(s.bars) {
		s.clear()
		s.draw(len(rows))
	}
	for i, r := range rows {
		s.bars[i].SetCurrent(r.share)
	}
}

// draw makes n bars; the lock is held.
func (s *screen) draw(n int) {
	if n == 0 {
		return
	}
	s.p = mpb.New(mpb.WithOutput(s.w), mpb.WithRefreshRate(barEvery))
	for i := range n {
		at := func(text func(row) string) func(decor.Statistics) string {
			return func(decor.Statistics) string {
				if rows := *s.rows.Load(); i < len(rows) {
					return text(rows[i])
				}
				return ""
			}
		}
		b := s.p.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("█").Padding("░"), mpb.BarPriority(i),
			mpb.PrependDecorators(decor.Any(at(func(r row) string { return r.left }), decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Any(at(func(r row) string { return r.right }), decor.WCSyncWidthR)))
		b.SetTotal(barWhole, false)
		s.bars = append(s.bars, b)
	}
}

// clear takes the bars away; the lock is held.
func (s *screen) clear() {
	if s.p == nil {
		return
	}
	for _, b := range s.bars {
		b.Abort(true)
	}
	s.p.Wait()
	s.p, s.bars = nil, nil
}

// ask keeps the bars away while a question is put.
func (s *screen) ask(question func() error) error {
	s.asks(true)
	defer s.asks(false)
	return question()
}

func (s *screen) asks(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking = yes
	s.clear()
}

func (s *screen) stop() { s.asks(true) }

// barRows are at most n lines: all nodes that take part, and those that lack
// most. None when nobody lacks anything.
func barRows(s golden.Status, mbs float64, n int) []row {
	nodes, whole := takingPart(s)
	if n < 1 || s.Bytes == 0 || whole == len(nodes) {
		return nil
	}
	var sum int64
	for _, n := range nodes {
		sum += n.Stored
	}
	share := sum * barWhole / s.Bytes / int64(len(nodes))
	all := row{s.Phase, fmt.Sprintf("%s lap %d, %.1f MB/s", perCent(share), s.Lap, mbs), share}
	if whole > 0 {
		all.right += fmt.Sprintf(", %d of %d have all", whole, len(nodes))
	}
	rows := []row{all}
	for _, n := range byNumber(nodes[:min(len(nodes), n-1)]) {
		share := n.Stored * barWhole / s.Bytes
		rows = append(rows, row{fmt.Sprintf("node %d %s", n.Number, n.Name), perCent(share), share})
	}
	return rows
}

func perCent(share int64) string { return fmt.Sprintf("%3d %%", share*100/barWhole) }
