package roster

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const one, two, three, four = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03", "52:54:00:00:00:04"

// clock is a time that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)} }

func mustOpen(t *testing.T, c Config) *Roster {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// boots asks with our boot loader, looks only for a boot server.
func (r *Roster) boots(mac string) Verdict { return r.Decide(Asker{MAC: mac, Loading: true}) }
func (r *Roster) looks(mac string) Verdict { return r.Decide(Asker{MAC: mac}) }

// clone takes a machine through all of it.
func (r *Roster) clone(t *testing.T, mac string) {
	t.Helper()
	if v := r.boots(mac); v != Image {
		t.Fatalf("%s hears %v", mac, v)
	}
	r.Sent(mac, Image)
	if err := r.Admit(mac, false); err != nil {
		t.Fatal(err)
	}
	r.Registered(mac, 1, "node1", "", "10.0.0.1")
}

func wantState(t *testing.T, r *Roster, mac string, want State) {
	t.Helper()
	if got := r.State(mac); got != want {
		t.Errorf("%s is %q, want %q", mac, got, want)
	}
}

// Every way through the table, and every way that isn't in it: what may not
// happen changes nothing. The image is heard in three states only.
func TestTable(t *testing.T) {
	states := []State{Unknown, Seen, Armed, Booting, Cloning, Done, Failed}
	events := []event{asks, isArmed, isDisarmed, takesLong, isUnfit, getsImage, registers, crashes, crashesAway, finishes, fails}
	if len(moves) != len(events) {
		t.Errorf("the table has %d events, the test %d", len(moves), len(events))
	}
	for _, e := range events {
		for _, from := range states {
			r := mustOpen(t, Config{Max: 1})
			m := &Machine{MAC: one, State: from}
			if from != Unknown {
				r.keep(m)
			}
			if from.holds() {
				r.taken = 1
			}
			to, ok := moves[e][from]
			if r.move(m, e, time.Now()) != ok {
				t.Errorf("%s %s: moved %v, want %v", from, e, !ok, ok)
			}
			if !ok {
				to = from
			}
			places := 0
			if to.holds() {
				places = 1
			}
			if m.State != to || r.taken != places || ok && r.find(one) != m || m.State.limited() != !m.Until.IsZero() && ok && from != to {
				t.Errorf("%q %s: is %q, want %q; %d places; until %v", from, e, m.State, to, r.taken, m.Until)
			}
			image := to == Armed || to == Booting || to == Cloning
			r.named = map[string]bool{two: true} // nobody is armed by coming
			m.Until = time.Time{}
			if to.limited() {
				m.Until = time.Now().Add(time.Hour)
			}
			if got := r.boots(one) == Image; got != image {
				t.Errorf("%s hears the image: %v, want %v", to, got, image)
			}
		}
	}
	// What keeps an erased disk from being erased once more.
	for e, row := range moves {
		if e != isArmed && (row[Done].limited() || row[Failed].limited() || row[Done] == Cloning || row[Failed] == Cloning) {
			t.Errorf("a machine that is done or has failed gets the image when it %s", e)
		}
		if e != isArmed && (row[Seen].limited() || row[Unknown].limited()) {
			t.Errorf("a stranger gets the image when it %s", e)
		}
	}
}

func TestFirstSoManyAreArmedAndNoMore(t *testing.T) {
	for _, only := range []bool{false, true} {
		r := mustOpen(t, Config{Max: 2, Only: only})
		if r.looks(one) != Image || r.looks(three) != Image || r.looks(four) != Image {
			t.Error("there is room, and no boot server is offered")
		}
		if r.taken != 0 {
			t.Error("who only looks for a boot server takes a place")
		}
		for _, c := range []struct {
			mac  string
			want Verdict
		}{{one, Image}, {two, Image}, {three, OwnDisk}, {one, Image}} {
			if got := r.boots(c.mac); got != c.want {
				t.Errorf("%s: %v, want %v", c.mac, got, c.want)
			}
		}
		want := Ignore
		if only {
			want = OwnDisk
		}
		if got := r.looks(three); got != want {
			t.Errorf("a third machine that looks for a boot server, only %v: %v, want %v", only, got, want)
		}
		if err := r.Admit(three, false); err == nil || !strings.Contains(err.Error(), "full") {
			t.Errorf("third machine: %v", err)
		}
		if err := r.Admit(two, false); err != nil {
			t.Error(err)
		}
	}
}

func TestNamedMachinesOnly(t *testing.T) {
	r := mustOpen(t, Config{Max: 1, Named: []string{strings.ToUpper(one), "52-54-00-00-00-03"}, Own: []string{four, ""}})
	for mac, want := range map[string]Verdict{one: Image, three: Image, two: Ignore, four: Ignore} {
		if got := r.looks(mac); got != want {
			t.Errorf("%s: %v, want %v", mac, got, want)
		}
	}
	if got := r.boots(two); got != OwnDisk {
		t.Errorf("a machine that nobody named has our boot loader: %v", got)
	}
	for mac, want := range map[string]string{two: "not on the list", four: "golden node", "": "six pairs", "x": "six pairs"} {
		if err := r.Admit(mac, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q registers: %v", mac, err)
		}
	}
	for _, bad := range []string{"nonsense", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01", four} {
		if _, err := Open(Config{Named: []string{bad}, Own: []string{four}, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q on the list: %v", bad, err)
		}
	}
}

// Once done or failed, never again: the machine's next network boot is its own
// disk, until the administrator says otherwise.
func TestDoneBootsLocally(t *testing.T) {
	for want, end := range map[State]func(*Roster){Done: func(r *Roster) { r.Finished(one) }, Failed: func(r *Roster) { r.Failed(one, "mkfs") }} {
		r := mustOpen(t, Config{Max: 1})
		r.clone(t, one)
		r.Sent(one, OwnDisk)
		if r.Home([]string{one}) {
			t.Error("home before it was done")
		}
		end(r)
		wantState(t, r, one, want)
		for range 3 {
			if r.looks(one) != OwnDisk || r.boots(one) != OwnDisk {
				t.Errorf("%s: hears %v", want, r.boots(one))
			}
		}
		if err := r.Admit(one, false); err == nil || !strings.Contains(err.Error(), string(want)+" already") {
			t.Errorf("%s: registers: %v", want, err)
		}
		if err := r.Admit(one, true); (err == nil) != (want == Done) {
			t.Errorf("%s: comes back to be let go: %v", want, err)
		}
		r.Sent(one, Image) // a late event
		r.Registered(one, 1, "", "", "")
		wantState(t, r, one, want)
		if r.boots(two) != OwnDisk {
			t.Error("its place was given to another")
		}
		r.Sent(one, OwnDisk)
		if !r.Home([]string{one}) {
			t.Error("not home")
		}
		if err := r.Arm([]string{one}); err != nil {
			t.Fatal(err)
		}
		if r.boots(one) != Image || r.Home([]string{one}) || r.taken != 1 {
			t.Error("armed again, and does not boot the image")
		}
	}
}

// A machine that was armed by coming and can't boot the image gives its place
// back; one that was named keeps it.
func TestNoImageForIt(t *testing.T) {
	r := mustOpen(t, Config{Max: 1})
	r.boots(one)
	r.Sent(one, OwnDisk)
	wantState(t, r, one, Seen)
	if r.boots(two) != Image {
		t.Error("the place is lost")
	}
	r.Sent(two, Image)
	r.Sent(two, OwnDisk)
	wantState(t, r, two, Booting)
	r = mustOpen(t, Config{Named: []string{one}})
	r.Sent(one, OwnDisk)
	wantState(t, r, one, Armed)
}

// A machine that crashes in the middle is taken up again so many times.
func TestCrash(t *testing.T) {
	r := mustOpen(t, Config{Max: 1})
	r.clone(t, one)
	for i := range maxAgain {
		r.Crashed(one, "switched off")
		if r.boots(one) != Image || r.Admit(one, false) != nil {
			t.Fatalf("crash %d: not taken up again", i+1)
		}
		r.Sent(one, Image)
		r.Registered(one, 1, "", "", "")
		wantState(t, r, one, Cloning)
	}
	r.Crashed(one, "switched off")
	wantState(t, r, one, Failed)
	if r.boots(one) != OwnDisk {
		t.Error("boots the image for ever")
	}
}

// Armed and booting end with their time; cloning doesn't.
func TestTimeLimit(t *testing.T) {
	c := newClock()
	r := mustOpen(t, Config{Max: 2, Named: []string{one, two, three}, ArmFor: time.Minute, Now: c.time})
	r.boots(two)
	r.Sent(two, Image)
	r.clone(t, three)
	c.pass(59 * time.Second)
	r.Sent(two, Image) // once more: the limit stays
	r.Tick()
	wantState(t, r, one, Armed)
	wantState(t, r, two, Booting)
	c.pass(time.Second)
	if r.looks(one) != Ignore || r.boots(two) != OwnDisk || r.boots(three) != Image {
		t.Errorf("after a minute: %v, %v, %v", r.looks(one), r.boots(two), r.boots(three))
	}
	wantState(t, r, one, Seen)
	if err := r.Admit(two, false); err == nil || !strings.Contains(err.Error(), "golden-serve arm") {
		t.Errorf("comes too late: %v", err)
	}
	if err := r.Arm([]string{one}); err != nil {
		t.Fatal(err)
	}
	if r.looks(one) != Image || r.Awaited() != 1 {
		t.Error("armed again, and hears nothing")
	}
	c.pass(30 * time.Second)
	r.Sent(one, Image)
	c.pass(59 * time.Second) // as long again, to come
	if r.Admit(one, false) != nil {
		t.Error("it had a minute from when it began to boot")
	}
	c.pass(time.Second)
	r.Tick()
	wantState(t, r, one, Seen)
	if r.Awaited() != 0 {
		t.Error("the session waits for a machine that isn't armed any more")
	}
}

// The administrator's words: all of it, or nothing.
func TestArmAndDisarm(t *testing.T) {
	r := mustOpen(t, Config{Max: 1, Own: []string{four}})
	for _, bad := range [][]string{{two, "nonsense"}, {two, four}} {
		if err := r.Arm(bad); err == nil || r.State(two) != Unknown {
			t.Errorf("arm %v: %v, and %s is %q", bad, err, two, r.State(two))
		}
	}
	r.clone(t, one)
	if err := r.Arm([]string{two, one}); err == nil || !strings.Contains(err.Error(), "being cloned") || r.State(two) != Unknown {
		t.Errorf("arm a machine that is being cloned: %v", err)
	}
	if err := r.Arm([]string{two, strings.ToUpper(two)}); err != nil {
		t.Fatal(err)
	}
	if r.boots(two) != Image || r.taken != 1 || !r.find(two).Extra {
		t.Error("the administrator's word is not worth a place beyond the number")
	}
	if err := r.Disarm([]string{two, three}); err != nil {
		t.Fatal(err)
	}
	for _, mac := range []string{two, three} {
		if r.boots(mac) != OwnDisk || r.looks(mac) != Ignore || r.Admit(mac, false) == nil {
			t.Errorf("%s is disarmed, and hears %v", mac, r.boots(mac))
		}
	}
	r.Sent(two, Image) // a late event
	wantState(t, r, two, Seen)
	if err := r.Disarm([]string{one}); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, one, Failed)
	if err := r.Arm([]string{three}); err != nil || r.boots(three) != Image {
		t.Errorf("armed after it was disarmed: %v", err)
	}
	r = mustOpen(t, Config{Max: 1})
	if err := r.Disarm([]string{one}); err != nil {
		t.Fatal(err)
	}
	if r.boots(one) != OwnDisk || r.boots(two) != Image {
		t.Error("a machine that was disarmed before it came takes the place")
	}
}

// A flood of invented addresses: memory and journal stay small, no place is
// taken, and the machines of the session are served.
func TestFlood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes.jsonl")
	c := newClock()
	r := mustOpen(t, Config{Max: 2, Path: path, Now: c.time})
	r.clone(t, one)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	flood := func(n int) (biggest int64) {
		for i := range n {
			r.Decide(Asker{MAC: fmt.Sprintf("52:55:%02x:%02x:%02x:%02x", rand.N(256), rand.N(256), rand.N(256), rand.N(256)),
				UUID: strings.Repeat("u", 100), Arch: strings.Repeat("\x00", 100), Address: "10.0.0.1"})
			if i%1000 == 0 {
				c.pass(time.Second)
				r.Tick()
				st, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				biggest = max(biggest, st.Size())
				if r.boots(one) != Image {
					t.Fatal("the session's machine isn't served")
				}
			}
		}
		return biggest
	}
	flood(5_000) // the tables are full
	before := heap()
	biggest := flood(100_000)
	after := heap()
	if after > before+1<<20 {
		t.Errorf("memory has grown from %d to %d bytes", before, after)
	}
	if most := int64(4*(2*maxStrangers+2)+slack+2*maxStrangers+2) * 1400; biggest > most {
		t.Errorf("the journal had %d bytes, at most %d", biggest, most)
	}
	if n := len(r.List()); n > 2*maxStrangers+1 {
		t.Errorf("%d machines are kept", n)
	}
	if r.boots(two) != Image {
		t.Error("the flood has taken a place")
	}
	t.Logf("journal %d bytes at most, memory %d bytes", biggest, after)
}

// Many goroutines at once, for the race detector; and never more places than
// there are.
func TestRace(t *testing.T) {
	r := mustOpen(t, Config{Max: 5, Path: filepath.Join(t.TempDir(), "nodes.jsonl")})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				mac := fmt.Sprintf("52:54:00:00:00:%02x", (g*31+i)%16)
				switch {
				case r.boots(mac) == Image:
					r.Sent(mac, Image)
					if r.Admit(mac, false) == nil {
						r.Registered(mac, i, "n", "", "")
					}
				case i%7 == 0:
					r.Crashed(mac, "x")
				}
				r.Note(mac, "says something", "10.0.0.1", errors.New("x"))
				if i%20 == 0 {
					r.Tick()
				}
				if i%50 == 0 {
					r.Finished(mac)
				}
			}
		})
	}
	wg.Wait()
	by := 0
	for _, m := range r.List() {
		if m.By == ByComing {
			by++
		}
	}
	if by > 5 {
		t.Errorf("%d machines were armed by coming, of 5", by)
	}
}
