package roster

import (
	"fmt"
	"slices"
)

// This file is what package golden tells of a machine. What the list doesn't
// know, or what can't be in its state, changes nothing.

// tell finds a machine and lets f change it; its line is written at once when
// f has moved it into another state, or it has crashed.
func (r *Roster) tell(mac string, f func(*Machine) (moved bool)) {
	mac, err := ParseMAC(mac)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.find(mac)
	before := *m
	if f(m) && (m.State != before.State || m.Lost != before.Lost) {
		r.write(m)
	}
}

// Sent takes note of a boot configuration that a machine has got. One that was
// armed and was told to boot its own disk all the same can't boot the image,
// and gives its place back.
func (r *Roster) Sent(mac string, v Verdict) {
	now := r.cfg.Now()
	r.tell(mac, func(m *Machine) bool {
		switch {
		case v == Image && r.move(m, getsImage, now):
			m.Boots++
			return true
		case v == OwnDisk && (m.State == Done || m.State == Failed):
			m.Home = true
		case v == OwnDisk && m.By == ByComing && r.move(m, isUnfit, now):
			m.Error = "there is no image for it"
			return true
		}
		return false
	})
}

// Note takes in a step of a machine's boot, in words, and why it went wrong.
func (r *Roster) Note(mac, what, address string, err error) {
	now := r.cfg.Now()
	r.tell(mac, func(m *Machine) bool {
		if m.State == Unknown {
			return false // a stranger is who has asked
		}
		m.Last, m.LastAt, m.dirty = clean(what, maxWord), now, true
		if address != "" {
			m.Address = clean(address, maxWord)
		}
		if err != nil {
			m.Error = clean(err.Error(), maxCause)
		}
		return false
	})
}

// Registered takes in that a machine was admitted, as this node.
func (r *Roster) Registered(mac string, number int, name, uuid, address string) {
	now := r.cfg.Now()
	r.tell(mac, func(m *Machine) bool {
		if !r.move(m, registers, now) {
			return false
		}
		m.Number, m.Name, m.Address = number, clean(name, maxWord), clean(address, maxWord)
		if uuid != "" {
			m.UUID = clean(uuid, maxWord)
		}
		return true
	})
}

// Finished: the machine is a clone.
func (r *Roster) Finished(mac string) {
	now := r.cfg.Now()
	r.tell(mac, func(m *Machine) bool {
		ok := r.move(m, finishes, now)
		if ok && m.State == Done {
			m.Error = ""
		}
		return ok
	})
}

// Failed: it has told so itself, or was given up.
func (r *Roster) Failed(mac, cause string) {
	now := r.cfg.Now()
	r.tell(mac, func(m *Machine) bool {
		ok := r.move(m, fails, now)
		if ok {
			m.Error = clean(cause, maxCause)
		}
		return ok
	})
}

// Crashed: it is not there any more, and may come back so many times.
func (r *Roster) Crashed(mac, cause string) {
	now := r.cfg.Now()
	r.tell(mac, func(m *Machine) bool {
		e := crashes
		if m.Lost >= maxAgain {
			e = crashesAway
		}
		if !r.move(m, e, now) {
			return false
		}
		m.Lost++
		m.Error = clean(cause, maxCause)
		return true
	})
}

// Recall takes in what golden's record of the session says of a machine: who
// is done there is done here, who has failed there for good has failed here,
// and who takes part there (was is another state) does so here, unless the list
// of today leaves it out.
func (r *Roster) Recall(mac string, number int, was State) {
	now := r.cfg.Now()
	r.tell(mac, func(m *Machine) bool {
		m.Number = number
		switch stranger := m.State == Unknown || m.State == Seen; {
		case m.By == ByVerb && m.State.limited(): // the administrator has armed it since
			return false
		case was == Done:
			return r.move(m, finishes, now)
		case was == Failed:
			return r.move(m, fails, now)
		case stranger && (m.Barred || r.shut || r.named != nil && !r.named[m.MAC]):
			return false
		case stranger && r.move(m, isArmed, now):
			m.By = ByComing
		}
		return r.move(m, registers, now)
	})
}

// Arm arms machines by the administrator's word: all of these, or none. One
// that is done or has failed begins anew. It takes one of the session's
// places, or where there is none a further one.
func (r *Roster) Arm(list []string) error {
	macs, err := r.parse(list)
	if err != nil {
		return err
	}
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, mac := range macs {
		if r.find(mac).State == Cloning {
			return fmt.Errorf("machine %s is being cloned", mac)
		}
	}
	if err := r.room(macs); err != nil {
		return err
	}
	for _, mac := range macs {
		r.arm(r.find(mac), ByVerb, now)
	}
	return nil
}

// room tells whether the list can hold these too; the lock is held.
func (r *Roster) room(macs []string) error {
	n := len(r.machines)
	for _, mac := range macs {
		if r.machines[mac] == nil {
			n++
		}
	}
	if n > MaxMachines {
		return fmt.Errorf("there would be %d machines: at most %d", n, MaxMachines)
	}
	return nil
}

// Disarm takes the image from machines: from these, or from none of them. One
// that is disarmed isn't armed again by coming. Who is done stays so; one that
// is being cloned has failed. It is on the disk with the next Sync.
func (r *Roster) Disarm(list []string) error {
	macs, err := r.parse(list)
	if err != nil {
		return err
	}
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.room(macs); err != nil {
		return err
	}
	for _, mac := range macs {
		m := r.find(mac)
		m.Barred = true
		if was := m.State; r.move(m, isDisarmed, now) && (m.State != was || m.State == Seen) {
			m.Error = "disarmed by the administrator"
		}
		r.write(m)
		r.cfg.Log.Info("machine is disarmed", "mac", mac, "state", m.State)
	}
	return nil
}

// parse checks the administrator's words.
func (r *Roster) parse(list []string) ([]string, error) {
	var out []string
	for _, s := range list {
		mac, err := ParseMAC(s)
		if err != nil {
			return nil, err
		}
		if r.own[mac] {
			return nil, fmt.Errorf("machine %s is this one: the golden node is never cloned to", mac)
		}
		if !slices.Contains(out, mac) {
			out = append(out, mac)
		}
	}
	if len(out) > MaxMachines {
		return nil, fmt.Errorf("%d machines are named: at most %d", len(out), MaxMachines)
	}
	return out, nil
}

// Home tells whether all these machines were told to boot their disks.
func (r *Roster) Home(macs []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(macs, func(s string) bool {
		mac, err := ParseMAC(s)
		return err == nil && !r.find(mac).Home
	})
}

// Awaited counts those that the administrator's word has armed, and that have
// not registered yet.
func (r *Roster) Awaited() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, m := range r.machines {
		if m.By == ByVerb && m.State.limited() {
			n++
		}
	}
	return n
}
