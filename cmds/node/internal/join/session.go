package join

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Session is a node that has registered. It outlasts golden: when golden is
// lost, the session waits for it and registers again, and says where it was.
type Session struct {
	Config
	Server string

	identity *trust.Identity
	client   *http.Client
	ctx      context.Context // of everything the session does; its cause says why it ended
	cancel   context.CancelCauseFunc
	reports  chan wire.Report
	tasks    sync.WaitGroup
	cut      chan struct{} // the chain has left this node behind: register again
	closing  chan struct{} // closed by Close: what waits is sent, and no more
	said     chan struct{} // is sent to when golden has answered to the last report

	transfers chan wire.LinkOrder
	plans     chan wire.Plan
	releases  chan wire.Release
	runs      chan wire.Run

	mu         sync.Mutex
	ln         net.Listener
	used       bool // a link has closed ln
	registered wire.Registered
	seq        int // of the last order
	turn       *turn
	known      map[wire.TransferID]bool // that golden has spoken of since we registered; nil: golden is lost
	holds      bool                     // something of the source is here
	resume     wire.Resume
}

// Why a session ended.
var (
	ErrGoldenLost = errors.New("golden lost")
	ErrStopped    = errors.New("golden says stop")
	ErrRefused    = errors.New("golden refuses this machine")
	ErrTwice      = errors.New("this machine is known to golden as one that lives")
)

// errDropped: golden lives, but doesn't know this node any more.
var errDropped = errors.New("golden has given this node up")

// errCut: golden has ended the transfer for this node alone.
var errCut = errors.New("the chain has left this node behind")

// maxReports may wait to be sent; more are dropped but for the last word.
const maxReports = 4096

func (s *Session) start(ctx context.Context) {
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.reports = make(chan wire.Report, maxReports)
	s.cut = make(chan struct{}, 1)
	s.closing, s.said = make(chan struct{}), make(chan struct{}, 1)
	s.transfers = make(chan wire.LinkOrder, 4)
	s.plans = make(chan wire.Plan, 1)
	s.releases = make(chan wire.Release, 1)
	s.runs = make(chan wire.Run, 1)
	s.tasks.Go(s.live)
}

// Number is what people call this node.
func (s *Session) Number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registered.Number
}

// live converses with golden until the session ends, and looks for golden
// when it is lost.
func (s *Session) live() {
	for {
		why := s.converse()
		if s.ctx.Err() != nil {
			return
		}
		if errors.Is(why, ErrGoldenLost) { // suspend may wait for a disk
			s.Say(fmt.Sprintf("golden lost: waiting for it (up to %s): %v", s.Wait, why))
		}
		s.suspend()
		if err := s.renew(why); err != nil {
			s.cancel(err)
			return
		}
	}
}

// converse hears orders and sends reports, until golden is lost.
func (s *Session) converse() error {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { s.sendReports(ctx) })
	wg.Go(func() { cancel(s.hearOrders(ctx)) })
	select {
	case <-ctx.Done():
	case <-s.cut:
		cancel(errCut)
	}
	wg.Wait()
	return context.Cause(ctx)
}

// lastWord is how long Close waits for golden to have taken what this node
// still had to say: why it failed, above all.
const lastWord = 5 * time.Second

// Close ends the session, when golden has taken all reports or doesn't.
func (s *Session) Close() {
	close(s.closing)
	select {
	case <-s.said:
	case <-s.ctx.Done():
	case <-time.After(lastWord):
	}
	s.cancel(context.Canceled)
	s.tasks.Wait()
	s.ln.Close()
	s.client.CloseIdleConnections()
}

// Report tells golden something. It doesn't wait.
func (s *Session) Report(r wire.Report) {
	s.mu.Lock()
	if r.State != "" {
		s.resume.State = r.State
	}
	if r.Ready != nil {
		s.resume.Ready = r.Ready
	}
	if r.Done != nil {
		s.resume.Done = r.Done
	}
	s.mu.Unlock()
	select {
	case s.reports <- r:
	default:
		s.Log.Warn("a report is lost: golden does not read")
	}
}

// Line logs here and at golden.
func (s *Session) Line(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.Log.Info(line)
	s.Report(wire.Report{Lines: []string{line}})
}

// Fail tells golden that this node's part is over, and why.
func (s *Session) Fail(stage string, err error) {
	s.Report(wire.Report{Fault: &wire.Fault{Stage: stage, Cause: err.Error()}})
}

// hearOrders reads orders, again after a broken connection, until there has
// been none that works for too long.
func (s *Session) hearOrders(ctx context.Context) error {
	heard := time.Now()
	for {
		begun := time.Now()
		last, err := s.readOrders(ctx)
		if ctx.Err() != nil || errors.Is(err, errDropped) {
			return err
		}
		if last.After(heard) {
			heard = last
		}
		// Time in which this machine stood still is not golden's.
		if time.Since(heard) > GoldenQuiet && time.Since(begun) < GoldenQuiet*2 {
			return fmt.Errorf("%w: %w", ErrGoldenLost, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// readOrders takes orders from one connection, and says when the last came.
func (s *Session) readOrders(ctx context.Context) (last time.Time, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(firstOrder, cancel)
	defer quiet.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s?after=%d", s.url(wire.OrdersPath), s.seq), nil)
	if err != nil {
		return last, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return last, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusGone, http.StatusUnauthorized:
		return last, errDropped
	default:
		return last, fmt.Errorf("orders: %s", resp.Status)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 64<<10), wire.MaxMessage)
	for in.Scan() {
		var o wire.Order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return last, fmt.Errorf("orders: %w", err)
		}
		last = time.Now()
		quiet.Reset(GoldenQuiet)
		s.obey(o)
	}
	if in.Err() != nil {
		return last, in.Err()
	}
	return last, io.EOF
}

// obey hands an order to whom it concerns.
func (s *Session) obey(o wire.Order) {
	s.seq = max(s.seq, o.Seq)
	if o.Link != nil {
		s.obeyLink(*o.Link)
	}
	if o.Plan != nil {
		offer(s.plans, *o.Plan)
	}
	if o.Run != nil {
		offer(s.runs, *o.Run)
	}
	if o.Release != nil {
		offer(s.releases, *o.Release)
	}
	if o.Stop != "" {
		s.cancel(fmt.Errorf("%w: %s", ErrStopped, o.Stop))
	}
}

func (s *Session) obeyLink(o wire.LinkOrder) {
	s.mu.Lock()
	t := s.turn
	if s.known == nil {
		s.known = map[wire.TransferID]bool{}
	}
	s.known[o.Transfer] = true
	s.mu.Unlock()
	switch {
	case t != nil && t.link.Transfer == o.Transfer:
		t.link.Order(o)
	case !o.End:
		offer(s.transfers, o)
	}
}

// offer puts a value where somebody may wait for it; of several that nobody
// took, the newest stays.
func offer[T any](c chan T, v T) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}

// sendReports streams reports to golden, with a beat when there are none.
func (s *Session) sendReports(ctx context.Context) {
	var last *wire.Report // not known to have been sent
	for ctx.Err() == nil {
		r, w := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { s.post(ctx, r) })
		last = s.pump(ctx, w, last)
		w.Close()
		wg.Wait() // golden has answered, or the connection is broken
		if s.isClosing() && last == nil && len(s.reports) == 0 {
			offer(s.said, struct{}{})
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	if last != nil && (last.Fault != nil || last.Lines != nil || last.Done != nil) {
		s.Report(*last)
	}
}

func (s *Session) post(ctx context.Context, body *io.PipeReader) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url(wire.ReportsPath), body)
	if err == nil {
		var resp *http.Response
		if resp, err = s.client.Do(req); err == nil {
			resp.Body.Close()
			err = fmt.Errorf("golden answers %s", resp.Status)
		}
	}
	body.CloseWithError(err)
}

// pump writes reports until the connection breaks, and returns the one that
// was being written then.
func (s *Session) pump(ctx context.Context, w io.Writer, last *wire.Report) *wire.Report {
	enc := json.NewEncoder(w)
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		var r wire.Report
		switch {
		case last != nil:
			r = *last
		default:
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			case r = <-s.reports:
			case <-s.closing:
				select {
				case r = <-s.reports:
				default:
					return nil
				}
			}
		}
		if enc.Encode(r) != nil {
			return &r
		}
		last = nil
	}
}

func (s *Session) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// why is the reason that a wait ended without what it waited for.
func (s *Session) why() error { return context.Cause(s.ctx) }

// NextPlan waits for golden's word to prepare the disks.
func (s *Session) NextPlan(ctx context.Context) (wire.Plan, error) { return next(ctx, s, s.plans) }

// NextRelease waits for golden's word to go.
func (s *Session) NextRelease(ctx context.Context) (wire.Release, error) {
	return next(ctx, s, s.releases)
}

// NextRun waits for golden to say who this node is that runs what it sends.
func (s *Session) NextRun(ctx context.Context) (wire.Run, error) { return next(ctx, s, s.runs) }

// NextTransfer waits for a place in a chain.
func (s *Session) NextTransfer(ctx context.Context) (wire.LinkOrder, error) {
	return next(ctx, s, s.transfers)
}

func next[T any](ctx context.Context, s *Session, c <-chan T) (T, error) {
	var zero T
	select {
	case v := <-c:
		return v, nil
	case <-ctx.Done():
		return zero, ctx.Err()
	case <-s.ctx.Done():
		select {
		case v := <-c:
			return v, nil
		default:
			return zero, s.why()
		}
	}
}
