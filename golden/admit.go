package golden

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// A machine that is lost may come back so often in a session. One from which
// so many wrong pieces came may not: twice what package chain cuts a node out
// for, since the one before a machine that turns bytes itself is cut out first.
const (
	maxBack = 8
	maxBad  = 6
)

// admit decides whether a machine that registers takes part. Its words are
// for the machine's console.
func (d *deployment) admit(r wire.Register, old *Node) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fetch := d.clone != nil && d.clone.Fetch
	switch {
	case d.closing && fetch && r.Resume == nil:
		return fmt.Errorf("%w: the session that sends stage 2 is over", errLater)
	case d.closing:
		return errors.New("the session is over")
	}
	if d.clone != nil {
		// Before its disk is erased, while its own system is still there.
		if why := d.clone.Plan.Loader.Refuses(r.Firmware); why != "" {
			return fmt.Errorf("this machine has %s firmware and could not boot as a clone: %s", strings.ToUpper(r.Firmware), why)
		}
	}
	if d.clone != nil && !fetch {
		if err := d.clone.Plan.Suits(r.Replication); err != nil {
			return err
		}
	}
	if d.clone != nil && d.clone.Wants != nil {
		if err := d.clone.Wants.Register(r); err != nil {
			return err
		}
	}
	if fetch && r.Stage == wire.Stage2 {
		return fmt.Errorf("%w: this session sends stage 2, which this machine has", errLater)
	}
	if d.states != nil {
		if err := d.hub.elsewhere(d, r.MAC); err != nil {
			return err
		}
		if err := d.states.Admit(r.MAC, r.Resume != nil && r.Resume.Done != nil); err != nil {
			return err
		}
	}
	if old != nil {
		if err := d.mayReturn(r, old); err != nil {
			return err
		}
	}
	if d.clone == nil {
		return d.admitReceiver(r, old)
	}
	return d.admitClone(r, old)
}

func (d *deployment) mayReturn(r wire.Register, old *Node) error {
	switch {
	case old.anew, reruns(r.Stage, old):
		return nil
	case d.bad[old.Number] >= maxBad:
		return errors.New("this machine was cut out, for wrong pieces came from it")
	case d.times[old.Number] >= maxBack:
		return fmt.Errorf("this machine has come back %d times", maxBack)
	case d.clone != nil && d.clone.Fetch:
		return nil // its memory is empty again
	case old.State() == status.Released:
		return errors.New("this machine is done already")
	case old.State() == status.Done && (r.Resume == nil || r.Resume.Done == nil):
		return errors.New("this machine is done already")
	}
	return nil
}

// admitReceiver takes so many receivers as were asked for; one that failed
// leaves its place to another.
func (d *deployment) admitReceiver(r wire.Register, old *Node) error {
	switch r.Stage {
	case wire.Receive:
	case wire.RunRAM:
		if err := d.guests.mayRun(r.MAC); err != nil {
			return err
		}
	default:
		return errors.New("this session sends to karecv only; it is no clone")
	}
	others := 0
	for _, n := range d.nodes {
		if n != old && n.live() {
			others++
		}
	}
	if others >= d.Nodes {
		return fmt.Errorf("the session is full: %d of %d receivers are here", others, d.Nodes)
	}
	if r.Stage != wire.RunRAM {
		return nil
	}
	if err := d.distinct(r, old); err != nil {
		return err
	}
	d.guests.came(r.MAC)
	return nil
}

// distinct refuses a machine that would have another's node_id or name: all
// are told of both.
func (d *deployment) distinct(r wire.Register, old *Node) error {
	number := 0
	if old != nil {
		number = old.Number
	} else {
		d.server.mu.Lock()
		number = d.server.next(machineKey(r, trust.Pin{}))
		d.server.mu.Unlock()
	}
	self := &Node{Number: number, Register: r}
	own := d.guests.named(r.MAC)
	others := slices.DeleteFunc(slices.Clone(d.nodes), func(n *Node) bool { return n == old || n.Number == number })
	for _, m := range d.guests.machines(others) {
		switch {
		case own != nil && m.MAC == own.MAC:
		case m.ID == self.id():
			return fmt.Errorf("node_id %d is machine %s's already: give each its own on its boot line, or none any", m.ID, m.MAC)
		case m.Name == d.guests.Hostname: // all are to be called the same
		case m.Name == d.guests.nameOf(r.MAC, self.id()):
			return fmt.Errorf("name %s is machine %s's already", m.Name, m.MAC)
		}
	}
	return nil
}

// admitClone takes armed machines in stage 1, and in stage 2 those that haven't
// failed here: stage 2 may have come from another server.
func (d *deployment) admitClone(r wire.Register, old *Node) error {
	switch r.Stage {
	case wire.Stage1:
		return nil
	case wire.Stage2:
		if old == nil || (old.live() || old.lostHow() != notLost || r.Resume != nil) || d.Book.knows(r.MAC) {
			return nil
		}
		return errors.New("this machine has failed in this session")
	}
	if r.Stage == wire.RunRAM {
		return errors.New("this session clones, and ka.run=ram on the boot line goes with golden-serve run or send")
	}
	return fmt.Errorf("a clone takes no %q: karecv goes with golden-serve send", r.Stage)
}
