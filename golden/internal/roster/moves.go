package roster

import "time"

// event is what can happen to a machine.
type event string

const (
	asks        event = "asks"           // by DHCP, or for a boot configuration
	isArmed     event = "is armed"       // by coming, by the list, or by the administrator's word
	isDisarmed  event = "is disarmed"    // by the administrator's word
	takesLong   event = "takes too long" // armed or booting, beyond the time limit
	isUnfit     event = "is unfit"       // was armed by coming, and there is no image for it
	getsImage   event = "gets the image" // the boot configuration was sent
	registers   event = "registers"      // at the control server
	crashes     event = "crashes"        // lost in the middle, and may come back
	crashesAway event = "crashes again"  // once too often
	finishes    event = "finishes"
	fails       event = "fails"
)

// moves is the table of transitions. What isn't in it doesn't happen: the
// machine stays what it is. Whatever says that a disk is ready, or must be left
// alone, is taken from every state; the image is won on one way only.
var moves = map[event]map[State]State{
	asks:        {Unknown: Seen},
	isArmed:     {Unknown: Armed, Seen: Armed, Armed: Armed, Booting: Armed, Done: Armed, Failed: Armed},
	isDisarmed:  {Unknown: Seen, Seen: Seen, Armed: Seen, Booting: Seen, Cloning: Failed, Done: Done, Failed: Failed},
	takesLong:   {Armed: Seen, Booting: Seen},
	isUnfit:     {Armed: Seen},
	getsImage:   {Armed: Booting, Booting: Booting, Cloning: Cloning},
	registers:   {Armed: Cloning, Booting: Cloning, Cloning: Cloning, Done: Done},
	crashes:     {Armed: Armed, Booting: Booting, Cloning: Cloning},
	crashesAway: {Armed: Failed, Booting: Failed, Cloning: Failed},
	finishes:    {Unknown: Done, Seen: Done, Armed: Done, Booting: Done, Cloning: Done, Done: Done, Failed: Failed},
	fails:       {Unknown: Failed, Seen: Failed, Armed: Failed, Booting: Failed, Cloning: Failed, Done: Failed},
}

// move takes a machine along the table, and tells whether there was a way. The
// lock is held.
func (r *Roster) move(m *Machine, e event, now time.Time) bool {
	to, ok := moves[e][m.State]
	if !ok {
		return false
	}
	from := m.State
	if from.holds() && !m.Extra {
		r.taken--
	}
	if from == Unknown {
		m.Since = now
	}
	if to != from || e == isArmed {
		m.Since, m.Until = now, time.Time{}
		if to.limited() {
			m.Until = now.Add(r.cfg.ArmFor)
		}
	}
	m.State, m.dirty = to, true
	if !to.holds() {
		m.Extra, m.By = false, ""
	} else if !from.holds() {
		m.Extra = e == isArmed && r.taken >= r.cfg.Max
	}
	if to.holds() && !m.Extra {
		r.taken++
	}
	r.keep(m)
	if to != from {
		r.cfg.Log.Debug("machine "+string(e), "mac", m.MAC, "was", from, "is", to)
	}
	return true
}
