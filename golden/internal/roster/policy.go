package roster

import (
	"fmt"
	"time"
)

// maxAgain is how often a machine that crashed in the middle may boot the
// image again in a session.
const maxAgain = 3

// Verdict is what a machine hears that boots from the network.
type Verdict int

// The verdicts.
const (
	Ignore  Verdict = iota // nothing at all
	OwnDisk                // boot your disk
	Image                  // boot the image
)

func (v Verdict) String() string { return [...]string{"ignore", "own disk", "image"}[v] }

// Asker is who boots from the network, as far as it is known. Only MAC is
// always there.
type Asker struct {
	MAC, UUID, Arch, Address string
	Loading                  bool // it has our boot loader and asks what to do; else it only looks for a boot server
}

// Decide answers a machine that boots from the network.
//
//	                        looks for a boot server     has our boot loader
//	armed, booting, cloning image                       image
//	done, failed            own disk                    own disk
//	another, there is room  image (to be offered)       is armed: image
//	another, no room        ignore; own disk if Only    own disk
//	another, --macs         ignore                      own disk
//	another, all disarmed   as if there were no room
//	another, not wanted     image (to be offered)       own disk
//	golden itself           ignore                      ignore
//
// A place is taken by who has our boot loader, not by who only asks: that one
// may go to another boot server yet, and its address may be invented.
func (r *Roster) Decide(a Asker) Verdict {
	mac, err := ParseMAC(a.MAC)
	if err != nil || r.own[mac] {
		return Ignore
	}
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.find(mac)
	r.expire(m, now)
	r.hear(m, a, now)
	switch m.State {
	case Armed, Booting, Cloning:
		return Image
	case Done, Failed:
		return OwnDisk
	}
	unwanted := a.Loading && r.cfg.Wants != nil && !r.cfg.Wants(a) // before that its address isn't known
	if r.named != nil || m.Barred || r.shut || r.taken >= r.cfg.Max || unwanted {
		if a.Loading || r.cfg.Only && r.named == nil {
			return OwnDisk
		}
		return Ignore
	}
	if a.Loading {
		r.arm(m, ByComing, now)
	}
	return Image
}

// hear takes in what a machine says of itself.
func (r *Roster) hear(m *Machine, a Asker, now time.Time) {
	r.move(m, asks, now)
	for _, f := range []struct {
		to   *string
		says string
	}{{&m.UUID, a.UUID}, {&m.Arch, a.Arch}, {&m.Address, a.Address}} {
		if f.says != "" {
			*f.to = clean(f.says, maxWord)
		}
	}
	m.Last, m.LastAt, m.dirty = "looks for a boot server", now, true
	if a.Loading {
		m.Last = "asks for its boot configuration"
	}
}

// Admit checks that a machine which registers is armed. One that didn't boot
// from here (a foreign TFTP server) is armed by its coming, as long as there
// is room and nobody named the machines. finished: it has become a clone in
// this session, and waits for its release.
func (r *Roster) Admit(mac string, finished bool) error {
	mac, err := ParseMAC(mac)
	if err != nil {
		return err
	}
	if r.own[mac] {
		return fmt.Errorf("%s is a network card of the golden node", mac)
	}
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.find(mac)
	r.expire(m, now)
	switch {
	case m.State == Armed || m.State == Booting || m.State == Cloning:
		return nil
	case m.State == Done && finished:
		return nil
	case m.State == Done || m.State == Failed:
		return fmt.Errorf("this machine is %s already in this session", m.State)
	case m.Barred:
		return fmt.Errorf("machine %s was disarmed", mac)
	case r.named[mac]:
		return fmt.Errorf("machine %s took longer to boot than %s: golden-serve arm %s lets it try again", mac, r.cfg.ArmFor, mac)
	case r.named != nil:
		return fmt.Errorf("machine %s is not on the list of machines to clone", mac)
	case r.shut:
		return fmt.Errorf("all machines were disarmed: golden-serve arm %s lets this one in", mac)
	case r.taken >= r.cfg.Max:
		return fmt.Errorf("the session is full: %d machines are armed", r.taken)
	}
	r.arm(m, ByComing, now)
	return nil
}

// arm arms; the lock is held.
func (r *Roster) arm(m *Machine, by Why, now time.Time) {
	r.move(m, isArmed, now)
	m.By, m.Barred, m.Home, m.Error, m.Boots, m.Lost = by, false, false, "", 0, 0
	r.write(m)
	if by != ByList { // those are said at once
		r.cfg.Log.Info("machine is armed", "mac", m.MAC, "by", by, "for", r.cfg.ArmFor, "machines", r.taken, "of", r.cfg.Max)
	}
}

// expire takes the image from a machine that has not begun, or not come, in
// time; the lock is held.
func (r *Roster) expire(m *Machine, now time.Time) {
	if !m.State.limited() || now.Before(m.Until) {
		return
	}
	was := m.State
	r.move(m, takesLong, now)
	m.Error = fmt.Sprintf("was %s for longer than %s", was, r.cfg.ArmFor)
	r.write(m)
	r.cfg.Log.Warn("machine is no longer armed: it took too long (golden-serve arm lets it try again)", "mac", m.MAC, "was", was, "limit", r.cfg.ArmFor)
}
