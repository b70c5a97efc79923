package golden

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// Machine is a line of the list of machines that have to do with a session.
type Machine = roster.Machine

// openStates makes the list of machines of a clone. Where there is a record of
// the session, the list is written down beside it, and the two are made to
// agree: who is done by one of them is done.
func openStates(c CloneConfig) (*roster.Roster, error) {
	own, err := ownCards()
	if err != nil {
		return nil, err
	}
	if c.Boot.DHCP == netboot.DHCPProxy && len(c.Boot.MACs) == 0 && c.Wants == nil {
		c.Log.Warn(fmt.Sprintf("the first %d machines that boot from this network are armed, whoever they are: --macs names them where others boot from it too", c.Nodes))
	}
	places, wants := c.Nodes, (func(roster.Asker) bool)(nil)
	if c.Wants != nil {
		places, wants = roster.MaxMachines, func(a roster.Asker) bool {
			addr, _ := netip.ParseAddr(a.Address)
			return c.Wants.Boot(a.MAC, addr)
		}
	}
	armFor := c.ArmFor
	if armFor == 0 {
		armFor = max(roster.DefaultArmFor, c.Wait)
	}
	r, err := roster.Open(roster.Config{
		Session: c.Session, Run: c.Book.run(), Anew: c.Book.anew, Max: places, Wants: wants, Named: c.Boot.MACs, Only: c.Boot.DHCP == netboot.DHCPFull,
		ArmFor: armFor, Own: own, Path: c.Book.journal(), Log: c.Log,
	})
	if err != nil {
		return nil, err
	}
	for _, nodes := range []map[string]bookNode{c.Book.spent, c.Book.earlier} {
		for _, n := range nodes {
			if n.MAC != "" {
				r.Recall(n.MAC, n.Number, n.end())
			}
		}
	}
	return r, nil
}

// ownCards are the addresses of this machine's network cards.
func ownCards() ([]string, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	var out []string
	for _, i := range list {
		out = append(out, i.HardwareAddr.String())
	}
	return out, nil
}

// journal is where the states of the machines are written down; empty: nowhere.
func (b *Book) journal() string {
	if b == nil || b.path == "" {
		return ""
	}
	return journalPath(filepath.Dir(filepath.Dir(b.path)), b.page.Session)
}

// journalPath is where a session's list of machines is. It outlives the
// session.
func journalPath(dir, session string) string {
	return filepath.Join(dir, "nodes", hexUnlessWord(session)+".jsonl")
}

// run tells this session from others of its name. Golden started again in the
// middle has the same.
func (b *Book) run() string {
	if b == nil {
		return ""
	}
	return b.page.Begun.Format(runForm)
}

const runForm = "2006-01-02T15:04:05.000000000Z07:00"

// decide answers the boot servers.
func decide(r *roster.Roster, c netboot.Client) netboot.Answer {
	a := roster.Asker{MAC: c.MAC.String(), UUID: c.UUID, Loading: c.Loading}
	if c.ClassID != "" {
		a.Arch = c.Arch.String()
	}
	if c.IP.IsValid() {
		a.Address = c.IP.String()
	}
	switch r.Decide(a) {
	case roster.Image:
		return netboot.BootImage
	case roster.OwnDisk:
		return netboot.LocalBoot
	}
	return netboot.Silent
}

// heard takes in a step of a machine's boot.
func heard(r *roster.Roster, e netboot.Event) {
	if e.MAC == nil {
		return
	}
	mac, addr := e.MAC.String(), ""
	if e.IP.IsValid() {
		addr = e.IP.String()
	}
	what := e.What
	if e.Name != "" && !e.Config {
		what += " " + e.Name
	}
	if e.Config {
		what = "boot configuration: " + e.Answer.String()
	}
	r.Note(mac, what, addr, e.Err)
	if !e.Config || e.Err != nil {
		return
	}
	r.Sent(mac, map[netboot.Answer]roster.Verdict{netboot.BootImage: roster.Image, netboot.LocalBoot: roster.OwnDisk}[e.Answer])
}

// seen tells the list how far a machine is; the lock is held. What is left of
// it before it was armed again may go on talking until it boots.
func (d *deployment) seen(n *Node) {
	if d.states == nil || n.anew {
		return
	}
	cause := ""
	if f := n.Fault(); f != nil {
		cause = f.Stage + ": " + f.Cause
	}
	switch s := n.State(); {
	case d.clone != nil && d.clone.Fetch && s != status.Failed:
		d.states.Note(n.MAC, string(s), "", nil) // it gets the same when it boots again
	case s == status.Done || s == status.Released:
		d.states.Finished(n.MAC)
	case s == status.Failed && n.lostHow() == notLost:
		d.states.Failed(n.MAC, cause)
	case s == status.Failed && !n.counted:
		n.counted = true
		d.states.Crashed(n.MAC, cause)
	case s != status.Failed:
		d.states.Note(n.MAC, string(s), "", nil)
	}
}

// Nodes is the list of machines, and where it is from.
type Nodes struct {
	Session  string    `json:"session"`
	Source   string    `json:"source"`  // "running", or "journal": of a golden-serve that has ended
	Written  time.Time `json:"written"` // now, or when the journal was
	Machines []Machine `json:"machines"`
}

// SavedNodes is the list that a golden-serve has left behind.
func SavedNodes(dir, session string) (Nodes, error) {
	s, err := roster.ReadFile(journalPath(dir, session))
	if err != nil {
		return Nodes{}, err
	}
	slices.SortFunc(s.Machines, func(a, b Machine) int { return roster.Order(&a, &b) })
	return Nodes{Session: s.Session, Source: "journal", Written: s.Written, Machines: s.Machines}, nil
}

func (d *deployment) list() Nodes {
	n := Nodes{Session: d.Session, Source: "running", Written: time.Now()}
	if d.states != nil {
		n.Machines = d.states.List()
	} else {
		n.Machines = d.guestList()
	}
	return n
}

// arm is the verb. It gives no consent: who was armed by it is shown and
// asked for like any other, also if it has been confirmed before. What it has
// done is on golden's disk when it returns, or the error says that it isn't.
func (d *deployment) arm(macs []string) error {
	if err := d.armNow(macs); err != nil {
		return err
	}
	return errors.Join(d.states.Sync(), d.Book.write())
}

func (d *deployment) armNow(macs []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.poke()
	if d.closing {
		return errors.New("the session is over")
	}
	for _, s := range macs {
		if n := d.byMAC(s); n != nil && n.State() == status.Done {
			return fmt.Errorf("machine %s is done, and about to be let go: try again in a moment", s)
		}
		if err := d.hub.elsewhere(d, s); err != nil {
			return err
		}
	}
	if err := d.states.Arm(macs); err != nil {
		return err
	}
	for _, s := range macs {
		n := d.byMAC(s)
		if n == nil {
			continue
		}
		n.anew = true
		delete(d.times, n.Number)
		delete(d.bad, n.Number)
		delete(d.free, n.Number) // it was let go once
		d.Book.forget(n)
	}
	return nil
}

// disarm is the verb; all: all that aren't being written to, and none is armed
// by coming any more: else others would take the places that become free. A
// machine whose disk is being written can't be disarmed. As with arm, it is on
// golden's disk then.
func (d *deployment) disarm(macs []string, all bool) error {
	if err := d.disarmNow(macs, all); err != nil {
		return err
	}
	return d.states.Sync()
}

func (d *deployment) disarmNow(macs []string, all bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.poke()
	if all {
		d.states.Shut()
		for _, m := range d.states.List() {
			if m.State == roster.Armed || m.State == roster.Booting || m.State == roster.Cloning {
				macs = append(macs, m.MAC)
			}
		}
	}
	var list []string
	var stop []*Node
	for _, s := range macs {
		n := d.byMAC(s)
		busy := n != nil && n.live() && n.State() != status.Released
		switch {
		case busy && (n.planned || n.State() == status.Done) && all:
			continue
		case busy && (n.planned || n.State() == status.Done):
			return fmt.Errorf("the disk of machine %s is being written: it can't be disarmed", s)
		case busy:
			stop = append(stop, n)
		}
		list = append(list, s)
	}
	if err := d.states.Disarm(list); err != nil {
		return err
	}
	for _, n := range stop {
		const why = "disarmed by the administrator"
		for _, f := range d.ferries() {
			f.leave(n, errors.New(why))
		}
		d.fail(n, notLost, string(n.State()), why)
		n.Tell(wire.Order{Stop: why})
	}
	return nil
}

// byMAC is the machine's latest registration, or nil.
func (d *deployment) byMAC(s string) *Node {
	mac, err := roster.ParseMAC(s)
	if err != nil {
		return nil
	}
	for _, n := range d.nodes {
		if own, err := roster.ParseMAC(n.MAC); err == nil && own == mac {
			return n
		}
	}
	return nil
}
