package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// slack is what a run may take beyond what was promised before that is an
// error: this machine may be busy. The figures themselves are printed.
const slack = 20 * time.Second

// Run is a transfer that is going on.
type Run struct {
	Scenario
	Lab   *Lab
	Dir   string
	Nodes []*Node
	Begun time.Time // golden began to send

	GoldenArgs []string // besides the usual
	Source     string   // what golden sends
	Wanted     int      // how many nodes golden waits for; 0: all
	Exit       int      // golden's status that is wanted; -1: as the report says
	NoStart    bool     // golden must not begin to send
	Torn       bool     // golden can't read all of it

	room    *room
	sum     source
	started time.Time

	mu     sync.Mutex
	golden *Program
	olden  []*Program // earlier ones
	breaks []string
	done   []string
	undo   []func()
}

// Play runs a scenario, and one without faults of the same shape for
// comparison, once.
func (l *Lab) Play(ctx context.Context, s Scenario) (*Result, error) {
	var promise time.Duration
	for _, f := range s.Faults {
		s.Plain, s.Shape.Nodes, s.Bytes = s.Plain || f.Plain, max(s.Shape.Nodes, f.Nodes), max(s.Bytes, f.Bytes)
		promise += f.Promise
	}
	calm, err := l.undisturbed(ctx, s.Shape)
	if err != nil || len(s.Faults) == 0 {
		return calm, err
	}
	res, err := l.play(ctx, s)
	if err != nil {
		return nil, err
	}
	res.Promise = promise
	if res.Sending > 0 {
		res.Added = res.Sending - calm.Sending
	}
	if res.Added > promise+slack {
		res.Breaks = append(res.Breaks, fmt.Sprintf("the others took %.1f s longer, promised are %.1f s", res.Added.Seconds(), promise.Seconds()))
	}
	return res, nil
}

// undisturbed is how long a transfer takes that nothing happens to.
func (l *Lab) undisturbed(ctx context.Context, s Shape) (*Result, error) {
	l.mu.Lock()
	f := l.calm[s]
	if f == nil {
		f = sync.OnceValues(func() (*Result, error) {
			res, err := l.play(ctx, Scenario{Shape: s})
			if err == nil && len(res.Breaks) > 0 {
				err = fmt.Errorf("a transfer without faults: %q\n%s", res.Breaks, res.Log)
			}
			return res, err
		})
		l.calm[s] = f
	}
	l.mu.Unlock()
	return f()
}

func (l *Lab) play(ctx context.Context, s Scenario) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute+2*s.wire())
	defer cancel()
	r := &Run{Scenario: s, Lab: l, Exit: -1, started: time.Now()}
	defer r.clean()
	if err := r.furnish(); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() { r.watchDisks(watch) })
	if err := r.begin(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.logs())
	}
	var faults sync.WaitGroup
	for i, f := range r.Faults {
		faults.Go(func() { r.inject(ctx, i, f) })
	}
	faults.Wait()
	res := r.end(ctx)
	return res, nil
}

// furnish makes hosts, folders and whatever the faults need beforehand.
func (r *Run) furnish() (err error) {
	if r.Dir, err = r.Lab.folder(); err != nil {
		return err
	}
	r.Defer(func() { os.RemoveAll(r.Dir) })
	if r.sum, err = r.Lab.source(r.Bytes); err != nil {
		return err
	}
	r.Source = r.sum.path
	if r.room, err = newRoom(r.Shape.Nodes, r.Mbit); err != nil {
		return err
	}
	r.Defer(r.room.close)
	for i := range r.Shape.Nodes {
		n := &Node{Index: i, Space: r.room.nodes[i], Addrs: []string{nodeAddr(i)}, dir: filepath.Join(r.Dir, fmt.Sprintf("node%d", i+1))}
		n.Out = filepath.Join(n.dir, "copy")
		if err := os.Mkdir(n.dir, 0o755); err != nil {
			return err
		}
		r.Nodes = append(r.Nodes, n)
	}
	r.Faults = slices.Clone(r.Faults)
	for i, f := range r.Faults {
		if f.Prepare == nil {
			continue
		}
		err := f.Prepare(r)
		if r.nobodyLeft(f, err) {
			r.Faults[i].Inject, r.Faults[i].Verify = nil, nil
			continue
		}
		if err != nil {
			return fmt.Errorf("prepare %s: %w", f.Name, err)
		}
	}
	return nil
}

// begin starts everybody, and waits until golden sends.
func (r *Run) begin(ctx context.Context) error {
	if err := r.StartGolden(); err != nil {
		return err
	}
	for _, n := range r.Nodes {
		if n.Late {
			continue
		}
		if err := r.Start(n); err != nil {
			return err
		}
	}
	if r.NoStart {
		r.Begun = time.Now()
		return nil
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if at, ok := r.golden.Out.Said("phase: sending", r.started); ok {
			r.Begun = at
			return nil
		}
		if r.golden.Ended() || ctx.Err() != nil || time.Now().After(end) {
			return errors.New("golden does not begin to send")
		}
	}
}

// StartGolden starts golden, for the first time or again.
func (r *Run) StartGolden() error {
	args := []string{"send", "-n", fmt.Sprint(cmp.Or(r.Wanted, r.Shape.Nodes)), "-s", "fault", "--report", filepath.Join(r.Dir, "report.json")}
	if r.Plain {
		args = append(args, "--plain")
	}
	args = append(append(args, r.GoldenArgs...), r.Source)
	p, err := start(r.room.golden, r.Dir, []string{"KAMETHOD_ETC=" + r.Lab.golden(), "KAMETHOD_STATE=" + filepath.Join(r.Dir, "state")},
		filepath.Join(r.Lab.Bin, "golden-serve"), args...)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.golden != nil {
		r.olden = append(r.olden, r.golden)
	}
	r.golden = p
	return nil
}

// Golden is the golden-serve that runs.
func (r *Run) Golden() *Program {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.golden
}

// Start starts a node's karecv, for the first time or again.
func (r *Run) Start(n *Node) error {
	args := []string{"-s", "fault", "-h", goldenAddr, "-v", "--out", n.Out}
	if r.Plain {
		args = append(args, "--plain")
	}
	p, err := start(n.Space, n.dir, []string{"KAMETHOD_ETC=" + r.Lab.keys(), "KAMETHOD_STATE=" + filepath.Join(n.dir, "state")},
		filepath.Join(r.Lab.Bin, "karecv"), append(args, n.Args...)...)
	if err != nil {
		return err
	}
	if n.Group != "" { // threads that exist already, and those to come
		if err := os.WriteFile(filepath.Join(n.Group, "cgroup.procs"), fmt.Append(nil, p.Pid()), 0); err != nil {
			return fmt.Errorf("join %s: %w", n.Group, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.prog != nil {
		r.olden = append(r.olden, n.prog)
	}
	n.prog = p
	return nil
}

// inject waits for a fault's moment.
func (r *Run) inject(ctx context.Context, i int, f Fault) {
	from, to := f.From, f.To
	if to == 0 {
		from, to = 0.1, 0.8
	}
	at := from + (to-from)*r.rand(i).Float64()
	r.Sleep(ctx, time.Until(r.Begun.Add(time.Duration(at*float64(r.wire())))))
	if f.Inject == nil {
		return
	}
	r.Did("%s at %.0f %%", f.Name, at*100)
	if err := f.Inject(ctx, r); err != nil && !r.nobodyLeft(f, err) {
		r.Break("%s could not be done: %v", f.Name, err)
	}
}

// nobodyLeft: of several faults one may find that all nodes it could befall
// have another already. That is nobody's error.
func (r *Run) nobodyLeft(f Fault, err error) bool {
	if len(r.Faults) < 2 || !errors.Is(err, errNobody) {
		return false
	}
	r.Did("%s: nothing was done: %v", f.Name, err)
	return true
}

// Sleep waits, but not longer than the run may last.
func (r *Run) Sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Did notes what was done.
func (r *Run) Did(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if !r.Begun.IsZero() {
		text = fmt.Sprintf("%.3f s: %s", time.Since(r.Begun).Seconds(), text)
	}
	r.done = append(r.done, text)
	r.Lab.say("%s", text)
}

// Break notes that something is not as it must be.
func (r *Run) Break(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.breaks = append(r.breaks, fmt.Sprintf(format, args...))
}

// Defer has f called when the run is over and all programs have ended.
func (r *Run) Defer(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.undo = append(r.undo, f)
}

func (r *Run) programs() []*Program {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := append([]*Program{}, r.olden...)
	if r.golden != nil {
		all = append(all, r.golden)
	}
	for _, n := range r.Nodes {
		if n.prog != nil {
			all = append(all, n.prog)
		}
	}
	return all
}

func (r *Run) clean() {
	for _, p := range r.programs() {
		p.Signal(syscall.SIGKILL)
	}
	for _, p := range r.programs() {
		p.kill()
	}
	for i := len(r.undo) - 1; i >= 0; i-- {
		r.undo[i]()
	}
}

func (r *Run) logs() string {
	out := ""
	for _, d := range r.done {
		out += "         done: " + d + "\n"
	}
	for _, p := range r.olden {
		out += p.Out.log("earlier "+filepath.Base(p.cmd.Path), r.Begun)
	}
	if r.golden != nil {
		out += r.golden.Out.log("golden", r.Begun)
	}
	for _, n := range r.Nodes {
		if n.prog != nil {
			out += n.prog.Out.log(fmt.Sprintf("node .%d", n.Index+11), r.Begun)
		}
	}
	return out
}
