package golden

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// Consent isn't inherited: a machine that comes anew after golden was started
// again is asked for again, and a record that nobody has renewed is not taken
// up at all.
func TestRecordGivesNoConsent(t *testing.T) {
	dir := t.TempDir()
	open := func() *Book {
		t.Helper()
		b, err := OpenBook(dir, "s", "source", false, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	n := newNode(wire.Register{MAC: "02:00:00:00:00:01"})
	n.Number = 1
	b := open()
	b.confirm([]*Node{n})
	b.begun()
	if !b.confirmed(n) {
		t.Fatal("not confirmed: the test shows nothing")
	}
	if err := b.write(); err != nil {
		t.Fatal(err)
	}
	b.lock.Close() // as if it had been killed
	b = open()
	if !b.known(n) || b.confirmed(n) {
		t.Errorf("after a restart: known %v, want true; confirmed %v, want false", b.known(n), b.confirmed(n))
	}
	b.lock.Close()
	old := time.Now().Add(-2 * maxAway)
	if err := os.Chtimes(b.path, old, old); err != nil {
		t.Fatal(err)
	}
	if b = open(); b.known(n) {
		t.Error("a record of long ago was taken up")
	}
	b.remove()
}

// Who has not come back after a restart is in the result, as failed; and a
// session whose machines are all done is not begun again by accident.
func TestRecordOfWhoIsMissing(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	b, err := OpenBook(dir, "s", "source", false, log)
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*Node
	for i, s := range []status.State{status.Receiving, status.Released} {
		n := newNode(wire.Register{MAC: string(rune('a' + i))})
		n.Number, n.state = i+1, s
		b.put(n, "")
		nodes = append(nodes, n)
	}
	b.begun()
	restart := func() (*Book, error) {
		if err := b.write(); err != nil {
			t.Fatal(err)
		}
		b.lock.Close()
		return OpenBook(dir, "s", "source", false, log)
	}
	if b, err = restart(); err != nil {
		t.Fatal(err)
	}
	got := b.absent(nil)
	failed := Result{Nodes: got}.Failed()
	if len(got) != 2 || failed != 1 || len(b.absent(nodes[:1])) != 1 {
		t.Errorf("nobody is back: %+v", got)
	}
	nodes[0].state = status.Released
	b.put(nodes[0], "")
	if _, err = restart(); err == nil || !strings.Contains(err.Error(), "--fresh") {
		t.Errorf("a session that has ended: %v", err)
	}
}
