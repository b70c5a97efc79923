package roster

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config says who may be armed, and where that is written down.
type Config struct {
	Session string
	Run     string           // tells this session from an earlier one of its name; a restart of golden has the same
	Anew    bool             // the earlier golden of this run is not gone on with: of its machines only those keep their state that are done, have failed or are barred
	Max     int              // so many machines
	Named   []string         // these, and no others; nil: the first Max that ask
	Wants   func(Asker) bool // others than these are not armed by coming; nil: all are
	Only    bool             // there is no other boot server: strangers are told to boot their disks
	ArmFor  time.Duration    // a machine that was armed, or is booting, has so long; 0: DefaultArmFor
	Own     []string         // golden's own network cards: never answered
	Path    string           // the journal; empty: none
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// DefaultArmFor is enough for a person to walk through a room and switch the
// machines on.
const DefaultArmFor = 30 * time.Minute

// MaxMachines bounds the machines that have to do with a session; the control
// server takes as many. maxStrangers bounds a generation of those that have
// asked only: there are two.
const (
	MaxMachines  = 4096
	maxStrangers = 512
)

// flushEvery is how often news are written down that are no transitions.
const flushEvery = 10 * time.Second

// Roster is the list.
type Roster struct {
	cfg   Config
	named map[string]bool // nil: nobody was named
	own   map[string]bool

	mu       sync.Mutex
	machines map[string]*Machine // who has a place, is on the list, or was disarmed
	cur, old map[string]*Machine // strangers: two generations
	taken    int                 // places of Max
	shut     bool                // nobody is armed any more but by the administrator's word
	journal  *journal            // nil: none
	flushed  time.Time
	lost     atomic.Bool // it was said that the journal isn't kept
}

// Open makes the list, of what an earlier golden of the same run has left of
// it. A machine of an earlier session is seen, and nothing else.
func Open(c Config) (*Roster, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ArmFor <= 0 {
		c.ArmFor = DefaultArmFor
	}
	r := &Roster{cfg: c, own: map[string]bool{}, machines: map[string]*Machine{}, cur: map[string]*Machine{}}
	for _, s := range c.Own {
		if mac, err := ParseMAC(s); err == nil { // a loopback has none
			r.own[mac] = true
		}
	}
	if len(c.Named) > MaxMachines {
		return nil, fmt.Errorf("%d machines are named: at most %d", len(c.Named), MaxMachines)
	}
	for _, s := range c.Named {
		mac, err := ParseMAC(s)
		if err != nil {
			return nil, err
		}
		if r.own[mac] {
			return nil, fmt.Errorf("machine %s is this one: the golden node is never cloned to", mac)
		}
		if r.named == nil {
			r.named = map[string]bool{}
		}
		r.named[mac] = true
	}
	r.cfg.Max = max(r.cfg.Max, len(r.named))
	if err := r.load(); err != nil {
		return nil, err
	}
	now := r.cfg.Now()
	n := 0
	for mac := range r.named {
		m := r.find(mac)
		if r.shut {
			break
		}
		if (m.State == Unknown || m.State == Seen) && !m.Barred {
			r.arm(m, ByList, now)
			n++
		}
	}
	if n > 0 {
		r.cfg.Log.Info("machines are armed", "by", ByList, "for", r.cfg.ArmFor, "machines", n)
	}
	return r, r.Sync()
}

// load takes in the journal, and begins a new one.
func (r *Roster) load() error {
	if r.cfg.Path == "" {
		return nil
	}
	j, saved, err := openJournal(r.cfg.Path, header{Session: r.cfg.Session, Run: r.cfg.Run}, r.cfg.Log)
	if errors.Is(err, errHeld) {
		r.cfg.Log.Info("another golden-serve has a session of this name; the states of the machines are not written down")
		return nil
	}
	if err != nil {
		return err
	}
	if saved.Shut && saved.Run == r.cfg.Run {
		r.shut = true
		j.shut()
		r.cfg.Log.Warn("all machines of this session were disarmed: none is armed by coming (golden-serve arm arms those that it names)")
	}
	for i := range saved.Machines {
		m := saved.Machines[i]
		if saved.Run != r.cfg.Run || r.cfg.Anew && m.State != Done && m.State != Failed && !m.Barred {
			m = Machine{MAC: m.MAC, State: Seen, Since: m.Since, Was: was(m), Arch: m.Arch, UUID: m.UUID, Last: m.Last, LastAt: m.LastAt}
		}
		if (m.State.limited() || m.State == Cloning) && m.By != ByVerb && r.named != nil && !r.named[m.MAC] {
			m = Machine{MAC: m.MAC, State: Seen, Since: r.cfg.Now(), Error: "is not on the list of machines any more", Arch: m.Arch, UUID: m.UUID}
		}
		if m.State.holds() && !m.Extra {
			r.taken++
		}
		r.keep(&m)
	}
	list := r.all()
	if err := j.finish(j.begin(list), len(list)); err != nil {
		return errors.Join(err, j.close())
	}
	r.journal = j
	return nil
}

func was(m Machine) State {
	if m.State == Seen {
		return m.Was
	}
	return m.State
}

// find is the machine, or a new one that is kept when it moves.
func (r *Roster) find(mac string) *Machine {
	for _, t := range []map[string]*Machine{r.machines, r.cur, r.old} {
		if m := t[mac]; m != nil {
			return m
		}
	}
	return &Machine{MAC: mac}
}

// keep puts a machine where it belongs: strangers go when others come.
func (r *Roster) keep(m *Machine) {
	delete(r.machines, m.MAC)
	if m.State.holds() || m.Barred || r.named[m.MAC] {
		delete(r.cur, m.MAC)
		delete(r.old, m.MAC)
		r.machines[m.MAC] = m
		return
	}
	if r.cur[m.MAC] == nil && len(r.cur) >= maxStrangers {
		r.old, r.cur = r.cur, map[string]*Machine{}
	}
	delete(r.old, m.MAC)
	r.cur[m.MAC] = m
}

// all lists the machines; the lock is held, or nobody else is there.
func (r *Roster) all() []*Machine {
	var out []*Machine
	for _, t := range []map[string]*Machine{r.machines, r.cur, r.old} {
		for _, m := range t {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, Order)
	return out
}

// Order is by number, those without one at the end.
func Order(a, b *Machine) int {
	return cmp.Or(cmp.Compare(uint(a.Number-1), uint(b.Number-1)), cmp.Compare(a.MAC, b.MAC))
}

// List is a copy of the list.
func (r *Roster) List() []Machine {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []Machine{}
	for _, m := range r.all() {
		out = append(out, *m)
	}
	return out
}

// State is how far a machine is.
func (r *Roster) State(mac string) State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(mac).State
}

// Names tells whether a machine is on the list that was given.
func (r *Roster) Names(mac string) bool { return r.named[mac] }

// Listed tells whether there is such a list: nobody is armed by coming then.
func (r *Roster) Listed() bool { return r.named != nil }

// Has tells whether a machine has a place here.
func (r *Roster) Has(mac string) bool { return r.State(mac).holds() }

// Tick takes the image from those whose time is over, and brings the journal
// up to date. It is to be called every second or so.
func (r *Roster) Tick() {
	now := r.cfg.Now()
	r.mu.Lock()
	for _, m := range r.machines {
		r.expire(m, now)
	}
	j, long := r.journal, false
	if now.Sub(r.flushed) >= flushEvery {
		r.flushed = now
		r.flush()
		long = j != nil && j.long(len(r.machines)+len(r.cur)+len(r.old))
	}
	r.mu.Unlock()
	if long {
		j.disk.Lock()
		r.complain(r.renew(j))
		j.disk.Unlock()
	}
	r.complain(r.Sync())
}

// flush writes what is not yet written; the lock is held.
func (r *Roster) flush() {
	if r.journal != nil && r.journal.lacks() {
		return // it is made anew, of all
	}
	for _, m := range r.all() {
		if m.dirty {
			r.write(m)
		}
	}
}

// write puts a machine's line into the journal; the lock is held. A journal
// that can't be written doesn't stop a session: Sync tells of it, and tries
// again.
func (r *Roster) write(m *Machine) {
	if r.journal != nil {
		if err := r.journal.append(m); err != nil {
			m.dirty = true
			r.complain(err)
			return
		}
	}
	m.dirty = false
}

// complain says once that the states aren't kept, and once that they are
// again.
func (r *Roster) complain(err error) {
	if r.lost.Swap(err != nil) == (err != nil) {
		return
	}
	if err != nil {
		r.cfg.Log.Warn("the states of the machines are not kept over a restart", "err", err)
		return
	}
	r.cfg.Log.Info("the states of the machines are kept again")
}

// ErrNotKept is wrapped in what is said when the list is not on the disk. What
// was done holds as long as this golden does.
var ErrNotKept = errors.New("the journal of the machines is not on the disk")

// Shut ends the arming by coming, and by the list at a restart, until the
// session ends. Who is armed stays so. It is on the disk with the next Sync.
func (r *Roster) Shut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	if r.journal != nil {
		r.journal.shut()
	}
	r.cfg.Log.Info("machines are not armed by coming any more")
}

// Sync returns when all that was written is on the disk, or why it isn't. It is
// called before a disk is erased, and before a machine is let go that is done:
// neither may be after an error. A journal that lacks lines, for the disk was
// full, is made anew by it, as soon as there is room.
func (r *Roster) Sync() error {
	r.mu.Lock()
	j := r.journal
	r.mu.Unlock()
	if j == nil {
		return nil
	}
	j.disk.Lock()
	defer j.disk.Unlock()
	err := j.sync()
	if err == nil && j.lacks() {
		err = r.renew(j)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return nil
}

// renew makes the journal anew; its disk is held. The list is locked only while
// it is copied.
func (r *Roster) renew(j *journal) error {
	r.mu.Lock()
	if r.journal != j {
		r.mu.Unlock()
		return nil // closed
	}
	list := r.all()
	text := j.begin(list)
	r.mu.Unlock()
	return j.finish(text, len(list))
}

// Close ends the list.
func (r *Roster) Close() error {
	r.mu.Lock()
	j := r.journal
	if j != nil {
		r.flush()
	}
	r.mu.Unlock()
	if j == nil {
		return nil
	}
	err := r.Sync()
	r.mu.Lock()
	r.journal = nil
	r.mu.Unlock()
	return errors.Join(err, j.close())
}
