package golden

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

func (l *lab) admin() Admin {
	return Admin{Control: net.JoinHostPort(labAddr, strconv.Itoa(wire.ControlPort)), Session: "lab", Identity: l.c.Identity}
}

// wantMachine asks golden how far a machine is.
func (l *lab) wantMachine(mac string, ok func(Machine) bool) {
	l.t.Helper()
	l.until("golden's list to say so of "+mac, func() bool {
		n, err := l.admin().Nodes(l.t.Context())
		if err != nil {
			l.t.Fatal(err)
		}
		for _, m := range n.Machines {
			if m.MAC == mac {
				return ok(m)
			}
		}
		return false
	})
}

func is(s roster.State) func(Machine) bool { return func(m Machine) bool { return m.State == s } }

// A machine that is done is cloned once more by the administrator's word, and
// by nothing else. Its disks are asked for once more, too; and the session
// waits for it when all others are through.
func TestArmAgain(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 2)
	l.start()
	a, b := l.machine(one), l.machine(two)
	together([]*machine{a, b}, func(m *machine) { m.intoStage2(); m.prepare() })
	l.wantMachine(one, func(m Machine) bool { return m.State == roster.Cloning && m.Number > 0 && m.Address == labAddr })
	if _, err := l.admin().Arm(t.Context(), []string{one}); err == nil || !strings.Contains(err.Error(), "being cloned") {
		t.Errorf("armed while it is cloned: %v", err)
	}
	b.rate = 500 * time.Millisecond // 12 pieces
	_, bEnded := b.receive()
	a.finish()
	l.wantMachine(one, is(roster.Done))
	a.wantRelease()
	if err := l.machine(one).register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "done already") {
		t.Errorf("a machine that is done: %v", err)
	}
	stranger := l.admin()
	var err error
	if stranger.Identity, err = trust.New(); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Arm(t.Context(), []string{one}); err == nil {
		t.Error("armed with a key that isn't golden's")
	}
	if _, err := l.admin().Arm(t.Context(), []string{one, "nonsense"}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("not an address: %v", err)
	}
	l.wantMachine(one, is(roster.Done))
	if _, err := l.admin().Arm(t.Context(), []string{one}); err != nil {
		t.Fatal(err)
	}
	l.wantMachine(one, is(roster.Armed))
	b.report(wire.Report{State: string(status.Done), Done: &wire.Done{}})
	b.wantEnd(bEnded)
	b.wantRelease()
	l.until("golden to wait for the armed one", func() bool { return strings.Contains(l.log.String(), "waiting for machines that were armed") })
	a = l.machine(one)
	a.intoStage2()
	a.prepare()
	a.finish()
	a.wantRelease()
	l.wantReleased(2)
	if len(l.asked) != 2 || len(l.asked[1]) != 1 || l.asked[1][0].MAC != one {
		t.Errorf("asked %d times: %v", len(l.asked), l.asked)
	}
	for _, n := range l.result.Nodes {
		if n.Rejoined {
			t.Errorf("%s is said to have been lost", n.MAC)
		}
	}
}

// A machine that has failed may be armed while it still stands there with its
// message, and says every second that it has failed.
func TestArmFailed(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 2)
	l.start()
	a, b := l.machine(one), l.machine(two)
	together([]*machine{a, b}, func(m *machine) { m.intoStage2() })
	b.prepare()
	a.next("to prepare", func(o wire.Order) bool { return o.Plan != nil })
	a.report(wire.Report{State: string(status.Failed), Fault: &wire.Fault{Stage: "preparing disks", Cause: "no disk"}})
	l.wantMachine(one, func(m Machine) bool { return m.State == roster.Failed && strings.Contains(m.Error, "no disk") })
	b.rate = time.Second // 12 pieces
	_, bEnded := b.receive()
	if _, err := l.admin().Arm(t.Context(), []string{one}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		a.report(wire.Report{State: string(status.Failed)})
		time.Sleep(200 * time.Millisecond)
	}
	l.wantMachine(one, is(roster.Armed))
	a.crash()
	l.until("golden to see it gone", func() bool {
		a = l.machine(one) // booted again: another key
		return a.register(wire.Stage1, nil) == nil
	})
	_, ended := a.receive()
	a.wantEnd(ended)
	a.crash()
	a.must(wire.Stage2, nil)
	a.prepare()
	a.finish()
	b.report(wire.Report{State: string(status.Done), Done: &wire.Done{}})
	b.wantEnd(bEnded)
	b.wantRelease()
	a.wantRelease()
	l.wantReleased(2)
	if len(l.asked) != 2 {
		t.Errorf("asked %d times", len(l.asked))
	}
}

// A machine beyond the list is let in by the administrator's word; one that
// waits to be confirmed is sent away by it, and hears no plan; one whose disk
// is being written can't be.
func TestArmAndDisarmInASession(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 2, one, two)
	answer := make(chan struct{})
	l.c.Confirm = func(list []*Node) error { <-answer; return nil }
	l.start()
	if err := l.machine(three).register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "not on the list") {
		t.Errorf("a machine that nobody named: %v", err)
	}
	if _, err := l.admin().Arm(t.Context(), []string{three}); err != nil {
		t.Fatal(err)
	}
	a, b, c := l.machine(one), l.machine(two), l.machine(three)
	together([]*machine{a, c}, func(m *machine) { m.must(wire.Stage1, nil) })
	together([]*machine{a, c}, func(m *machine) {
		_, ended := m.receive()
		m.wantEnd(ended)
		m.crash()
		m.must(wire.Stage2, nil)
	})
	if _, err := l.admin().Disarm(t.Context(), []string{one, two}); err != nil {
		t.Fatal(err)
	}
	if o := a.next("anything", func(wire.Order) bool { return true }); o.Stop == "" {
		t.Errorf("it is told %+v", o)
	}
	a.crash()
	l.wantMachine(one, func(m Machine) bool { return m.State == roster.Failed && m.Error != "" })
	l.wantMachine(two, func(m Machine) bool { return m.State == roster.Seen && m.Barred })
	if err := b.register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "disarmed") {
		t.Errorf("a machine that was disarmed: %v", err)
	}
	close(answer)
	c.prepare()
	if _, err := l.admin().Disarm(t.Context(), []string{three}); err == nil || !strings.Contains(err.Error(), "being written") {
		t.Errorf("disarmed while its disk is written: %v", err)
	}
	if _, err := l.admin().DisarmAll(t.Context()); err != nil { // all that can be
		t.Fatal(err)
	}
	l.wantMachine(three, is(roster.Cloning))
	c.finish()
	c.wantRelease()
	l.wait()
	if l.err != nil || len(l.result.Nodes) != 2 || l.result.Failed() != 1 {
		t.Errorf("%+v, %v", l.result.Nodes, l.err)
	}
}

// A machine that was armed and doesn't come holds the session up only as long
// as its time limit is.
func TestArmedAndGone(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 1)
	l.c.ArmFor = 8 * time.Second
	l.start()
	a := l.machine(one)
	if _, err := l.admin().Arm(t.Context(), []string{one, two}); err != nil {
		t.Fatal(err)
	}
	a.intoStage2()
	a.prepare()
	a.finish()
	a.wantRelease()
	l.wantReleased(1)
}

// A session that sends has no machines to arm, and says so.
func TestArmInASend(t *testing.T) {
	d := newDeployment(Config{Session: "s"})
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodPost, armPath+"?session=s", strings.NewReader(`{"macs":["`+one+`"]}`)),
		httptest.NewRequest(http.MethodPost, disarmPath+"?session=s", strings.NewReader(`{"all":true}`)),
	} {
		w := httptest.NewRecorder()
		d.verbs().ServeHTTP(w, r)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "boots no machines; it arms none") {
			t.Errorf("%s: %d %s", r.URL, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	d.verbs().ServeHTTP(w, httptest.NewRequest(http.MethodGet, nodesPath+"?session=s", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"machines":[]`) {
		t.Errorf("the list of nobody: %d %s", w.Code, w.Body)
	}
}

// A session of golden-serve run lists its machines, and says why it arms none.
func TestNodesOfARun(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	const three, four = "52:54:00:77:00:03", "52:54:00:77:00:04"
	l := runLab(t, 2, func(c *RunConfig) {
		c.Named = []Named{{MAC: three, Number: 3, Name: "gamma"}, {MAC: four, Number: 4, Name: "delta"}}
	})
	m := l.machine(four)
	m.must(wire.RunRAM, nil)
	l.wantMachine(three, func(m Machine) bool { return m.State == roster.Armed && m.Number == 3 && m.Name == "gamma" })
	l.wantMachine(four, func(m Machine) bool {
		return m.State == roster.Seen && m.Number == 4 && m.Name == "delta" && m.Address == labAddr && m.Last == "waiting"
	})
	m.report(wire.Report{Fault: &wire.Fault{Stage: "running in memory", Cause: "no room"}})
	l.wantMachine(four, func(m Machine) bool { return m.State == roster.Failed && strings.Contains(m.Error, "no room") })

	d := newDeployment(Config{Session: "s", Nodes: 1})
	d.guests = &guests{RunConfig: RunConfig{Config: d.Config, Boot: &Boot{DHCP: netboot.DHCPFull}}}
	d.guests.decide(client(t, one))
	if got := d.list().Machines; len(got) != 1 || got[0].MAC != one || got[0].State != roster.Booting {
		t.Errorf("who was given the image: %+v", got)
	}
	w := httptest.NewRecorder()
	d.verbs().ServeHTTP(w, httptest.NewRequest(http.MethodPost, armPath+"?session=s", strings.NewReader(`{"macs":["`+one+`"]}`)))
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "golden-serve run name those that run it") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Nobody isn't all: a list that was lost on its way disarms nobody.
func TestAllIsSaid(t *testing.T) {
	d := newDeployment(Config{Session: "s"})
	var err error
	if d.states, err = roster.Open(roster.Config{Max: 2, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	if err := d.states.Arm([]string{one}); err != nil {
		t.Fatal(err)
	}
	post := func(path, body string) int {
		w := httptest.NewRecorder()
		d.verbs().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path+"?session=s", strings.NewReader(body)))
		return w.Code
	}
	for _, path := range []string{armPath, disarmPath} {
		for _, body := range []string{"", "null", "[]", `["` + one + `"]`, "{}", `{"macs":null}`, `{"all":false}`, `{"all":true,"macs":["` + one + `"]}`, `{"who":"all"}`} {
			if code := post(path, body); code != http.StatusBadRequest {
				t.Errorf("%s %s: %d", path, body, code)
			}
		}
	}
	if got := d.states.State(one); got != roster.Armed {
		t.Errorf("it is %s", got)
	}
	if code := post(armPath, `{"all":true}`); code == http.StatusOK {
		t.Error("all machines there are were armed")
	}
	if code := post(disarmPath, `{"all":true}`); code != http.StatusOK || d.states.State(one) != roster.Seen {
		t.Errorf("%d, and it is %s", code, d.states.State(one))
	}
	if got := decide(d.states, client(t, two)); got != netboot.LocalBoot {
		t.Errorf("another machine in the place that has become free: %v", got)
	}
}

// newBookLab is a lab for one node whose golden writes down how far it is.
func newBookLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, 1)
	var err error
	if l.c.Book, err = OpenBook(l.dir, "lab", "source", false, l.c.Log); err != nil {
		t.Fatal(err)
	}
	return l
}

// While golden can't write down who is done, no disk is erased, and nobody is
// let go; when it can, all goes on.
func TestNothingGoesOnUnwritten(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newBookLab(t)
	l.start()
	a, c := l.machine(one), l.machine(three)
	a.intoStage2()
	a.prepare()
	inTheWay := journalPath(l.dir, "lab") + ".new" // the next journal can't be made
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := l.admin().DisarmAll(t.Context()); err == nil || !strings.Contains(err.Error(), roster.ErrNotKept.Error()) {
		t.Errorf("disarmed on a disk that can't be written: %v", err)
	}
	if _, err := l.admin().Arm(t.Context(), []string{three}); err == nil || !strings.Contains(err.Error(), roster.ErrNotKept.Error()) {
		t.Errorf("armed on a disk that can't be written: %v", err)
	}
	a.finish()
	c.intoStage2()
	l.until("golden to say so", func() bool { return strings.Contains(l.log.String(), "nothing is erased and nobody is let go") })
	time.Sleep(nobodyWait + 2*pingEvery) // time enough to do it all the same
	for _, m := range []*machine{a, c} {
		for len(m.orders) > 0 {
			if o := <-m.orders; o.Plan != nil || o.Release != nil {
				t.Errorf("%s is told %+v", m.mac, o)
			}
		}
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	a.wantRelease()
	c.prepare()
	c.finish()
	c.wantRelease()
	l.wantReleased(2)
}

// While golden's disk takes its time over the list of machines, golden hears
// its nodes all the same: none is lost, and the one that is done is let go
// afterwards.
func TestSlowDiskSilencesNobody(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newBookLab(t)
	l.start()
	a := l.machine(one)
	a.intoStage2()
	a.prepare()
	slow := journalPath(l.dir, "lab") + ".new" // who opens it waits for a reader
	if err := unix.Mkfifo(slow, 0o600); err != nil {
		t.Fatal(err)
	}
	disarmed := make(chan error, 1)
	go func() { _, err := l.admin().DisarmAll(l.t.Context()); disarmed <- err }()
	a.rate = chain.DefaultQuiet / 8 // twelve pieces: longer than a node may be silent
	a.finish()
	time.Sleep(nobodyWait + 2*pingEvery) // time enough to let it go all the same
	for len(a.orders) > 0 {
		if o := <-a.orders; o.Release != nil {
			t.Error("it is let go, and nobody has written down that it is done")
		}
	}
	select {
	case err := <-disarmed:
		t.Errorf("disarmed before that is on the disk: %v", err)
	default:
	}
	reader, err := os.OpenFile(slow, os.O_RDWR, 0) // reading only would wait, too
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := os.Remove(slow); err != nil {
		t.Fatal(err)
	}
	a.wantRelease()
	if err := <-disarmed; err == nil || !strings.Contains(err.Error(), roster.ErrNotKept.Error()) {
		t.Errorf("disarmed on what is no disk: %v", err)
	}
	l.wantReleased(1)
	if strings.Contains(l.log.String(), "node is gone") {
		t.Error("a node was lost while golden was slow")
	}
}
