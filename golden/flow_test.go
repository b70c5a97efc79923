package golden

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

func (l *lab) wantReleased(n int) {
	l.t.Helper()
	l.wait()
	if l.err != nil || len(l.result.Nodes) != n {
		l.t.Fatalf("%d nodes, %v", len(l.result.Nodes), l.err)
	}
	for _, x := range l.result.Nodes {
		if x.State != status.Released {
			l.t.Errorf("node %d is %s: %s %s", x.Number, x.State, x.Stage, x.Error)
		}
	}
	if !l.result.Touched {
		l.t.Error("says that no disk was touched")
	}
}

func TestCloneFlow(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 2)
	l.start()
	a, b := l.machine(one), l.machine(two)
	together([]*machine{a, b}, func(m *machine) {
		m.intoStage2()
		m.prepare()
		m.finish()
		m.wantRelease()
	})
	l.wantReleased(2)
	if len(l.asked) != 1 || len(l.asked[0]) != 2 {
		t.Errorf("asked %d times", len(l.asked))
	}
}

// A machine that comes when the others are far gets everything by itself, and
// they don't wait for it. A fourth is refused, and so is who is done.
func TestCloneLate(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 3, one, two, three)
	l.start()
	a, b, c := l.machine(one), l.machine(two), l.machine(three)
	early := []*machine{a, b}
	together(early, func(m *machine) { m.must(wire.Stage1, nil) })
	if err := l.admin().Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	together(early, func(m *machine) {
		_, ended := m.receive()
		m.wantEnd(ended)
		m.crash()
		m.must(wire.Stage2, nil)
		m.prepare()
	})
	if err := l.machine("52:54:00:00:00:04").register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "not on the list") {
		t.Errorf("a machine that nobody named: %v", err)
	}
	c.intoStage2()                                                    // while the tree is under way to the others
	together(early, func(m *machine) { m.finish(); m.wantRelease() }) // they don't wait for c, which has not begun
	l.wantMachine(three, is(roster.Cloning))
	if err := l.machine(one).register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "done already in this session") {
		t.Errorf("a machine that is done: %v", err)
	}
	c.prepare()
	c.finish()
	c.wantRelease()
	l.wantReleased(3)
}

// A machine that is switched off in the middle may begin again, and nobody
// else may take its place.
func TestCloneCrash(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 2)
	l.start()
	a, b := l.machine(one), l.machine(two)
	together([]*machine{a, b}, func(m *machine) { m.intoStage2(); m.prepare() })
	b.rate = 100 * time.Millisecond
	whole, ended := a.receive()
	_, bEnded := b.receive()
	b.crash()
	<-bEnded
	l.until("golden to see it", func() bool { return strings.Contains(l.log.String(), "node is gone") })
	if err := l.machine(three).register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("a third machine: %v", err)
	}
	<-whole
	b = l.machine(two) // another key
	b.intoStage2()
	a.report(wire.Report{State: string(status.Done), Done: &wire.Done{}})
	a.wantEnd(ended)
	a.wantRelease()
	b.prepare()
	b.finish()
	b.wantRelease()
	l.wantReleased(2)
	for _, n := range l.result.Nodes {
		if n.Rejoined != (n.MAC == two) {
			t.Errorf("%s rejoined: %v", n.MAC, n.Rejoined)
		}
	}
	if len(l.asked) != 1 {
		t.Errorf("asked %d times", len(l.asked))
	}
}

// Too few: nothing is told to anybody but to stop.
func TestCloneTooFew(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 3)
	l.c.Wait, l.c.Min = 10*time.Second, 2 // one machine registers within that
	l.start()
	a := l.machine(one)
	a.must(wire.Stage1, nil)
	if o := a.next("anything", func(wire.Order) bool { return true }); o.Stop == "" {
		t.Errorf("it is told %+v", o)
	}
	l.wait()
	if !errors.Is(l.err, ErrTooFew) || l.result.Touched {
		t.Errorf("%v, touched %v", l.err, l.result.Touched)
	}
}

// Not confirmed: the machines hear no plan.
func TestCloneNotConfirmed(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 1)
	no := errors.New("no")
	l.c.Confirm = func([]*Node) error { return no }
	l.start()
	a := l.machine(one)
	a.intoStage2()
	if o := a.next("anything", func(wire.Order) bool { return true }); o.Stop == "" {
		t.Errorf("it is told %+v", o)
	}
	l.wait()
	if !errors.Is(l.err, no) || l.result.Touched {
		t.Errorf("%v, touched %v", l.err, l.result.Touched)
	}
}

// Golden is started again when one machine is done and the other has its
// disks ready: nobody is asked, nobody prepares once more.
func TestCloneGoldenRestarts(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 2)
	open := func() {
		digest, err := Digest(l.c.Tree)
		if err == nil {
			l.c.Book, err = OpenBook(l.dir, "lab", digest, false, l.c.Log)
		}
		if err != nil {
			t.Fatal(err)
		}
		l.c.Token = l.c.Book.Token("token")
	}
	open()
	l.start()
	a, b := l.machine(one), l.machine(two)
	together([]*machine{a, b}, func(m *machine) { m.intoStage2(); m.prepare() })
	source := a.next("a transfer", isLink).Link.Source
	book := bookPath(l.dir, "lab")
	var kept []byte
	l.until("the book to have both", func() bool {
		kept, _ = os.ReadFile(book)
		return strings.Count(string(kept), `"confirmed": "machine `) == 2 && strings.Contains(string(kept), `"started": true`)
	})
	l.cancel() // it removes the book; a golden that is killed does not
	<-l.done
	a.crash()
	b.crash()
	if err := os.WriteFile(book, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	l.asked = nil
	open()
	l.start()
	ready := &wire.DiskResult{Disks: []string{"/dev/vda"}}
	a.must(wire.Stage2, &wire.Resume{State: string(status.Done), Source: source, Ready: ready, Done: &wire.Done{}})
	b.must(wire.Stage2, &wire.Resume{State: string(status.Receiving), Source: source, Ready: ready})
	b.finish()
	a.wantRelease()
	b.wantRelease()
	l.wantReleased(2)
	if len(l.asked) != 0 {
		t.Errorf("asked %d times", len(l.asked))
	}
	if l, _ := filepath.Glob(filepath.Dir(book) + "/*"); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
}
