package golden

import (
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// stateOf is how far a node is.
func (l *lab) stateOf(number int) status.State {
	s, err := l.admin().Status(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, n := range s.Nodes {
		if n.Number == number {
			return n.State
		}
	}
	return ""
}

// Nodes that are held go one by one, as the administrator says; then all.
func TestHeldUntilReleased(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 3)
	l.c.Hold = true
	l.start()
	list := []*machine{l.machine("52:54:00:00:00:01"), l.machine("52:54:00:00:00:02"), l.machine("52:54:00:00:00:03")}
	together(list, (*machine).intoStage2)
	together(list, (*machine).prepare)
	together(list, (*machine).finish)
	l.until("all are held", func() bool {
		s, err := l.admin().Status(t.Context())
		return err == nil && strings.Contains(s.Phase, "held")
	})
	for _, m := range list {
		if s := l.stateOf(m.me.Number); s != status.Done {
			t.Errorf("node %d is held, and %s", m.me.Number, s)
		}
	}
	if _, err := l.admin().Release(t.Context(), []string{"9"}); err == nil {
		t.Error("a node that isn't there is released")
	}
	r, err := l.admin().Release(t.Context(), []string{list[1].mac})
	if err != nil || len(r.Going) != 1 || r.Going[0] != list[1].me.Number {
		t.Errorf("released: %+v, %v", r, err)
	}
	list[1].wantRelease()
	if s := l.stateOf(list[0].me.Number); s != status.Done {
		t.Errorf("another one went along: it is %s", s)
	}
	if _, err := l.admin().Release(t.Context(), []string{AllNodes}); err != nil {
		t.Error(err)
	}
	list[0].wantRelease()
	list[2].wantRelease()
	l.wait()
	if l.err != nil || l.result.Failed() != 0 {
		t.Errorf("%v, %+v", l.err, l.result)
	}
}

// The pause between two nodes (-d) is cut short.
func TestReleasedBeforeThePause(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 2)
	l.c.Delay = time.Hour
	l.start()
	list := []*machine{l.machine("52:54:00:00:00:01"), l.machine("52:54:00:00:00:02")}
	together(list, (*machine).intoStage2)
	together(list, (*machine).prepare)
	together(list, (*machine).finish)
	l.until("the first has gone", func() bool {
		return l.stateOf(1) == status.Released || l.stateOf(2) == status.Released
	})
	if _, err := l.admin().Release(t.Context(), []string{"1", "2"}); err != nil {
		t.Error(err)
	}
	list[0].wantRelease()
	list[1].wantRelease()
	l.wait()
	if l.err != nil {
		t.Error(l.err)
	}
}

// heldClone is a clone that holds its nodes.
func heldClone(t *testing.T) *deployment {
	t.Helper()
	l := newLab(t, 1)
	l.c.Hold = true
	d, err := newClone(l.c)
	if err != nil {
		t.Fatal(err)
	}
	newHub([]*deployment{d})
	return d
}

// Golden stays for a held node that has failed, also while its agent's
// connection is broken.
func TestHeldOverAHiccup(t *testing.T) {
	d := heldClone(t)
	n := newNode(wire.Register{MAC: mac1, Stage: wire.Stage2})
	n.Number = 1
	d.nodes = append(d.nodes, n)
	d.fail(n, notLost, "cloning", "no disk")
	if d.keeps() {
		t.Error("golden stays for a machine that has no agent")
	}
	a := &agent{node: n, gone: make(chan struct{})}
	d.server.agents.enter(a)
	if !d.keeps() {
		t.Error("golden goes while the agent is there")
	}
	d.server.agents.part(a)
	if !d.keeps() {
		t.Error("golden goes as soon as the agent's connection breaks")
	}
	d.server.agents.parted[1] = time.Now().Add(-agentBack)
	if d.keeps() {
		t.Error("golden stays for an agent that has gone for good")
	}
}

// A node that was let go, and is armed again, is held again.
func TestArmedAgainIsHeldAgain(t *testing.T) {
	d := heldClone(t)
	n := newNode(wire.Register{MAC: mac1, Stage: wire.Stage2})
	n.Number = 1
	d.nodes = append(d.nodes, n)
	if _, err := d.release([]string{"1"}); err != nil || d.held(n) {
		t.Fatalf("it is not released: %v", err)
	}
	if err := d.arm([]string{mac1}); err != nil {
		t.Fatal(err)
	}
	if !d.held(n) {
		t.Error("it is let go as soon as it is done again")
	}
}
