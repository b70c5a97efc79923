package golden

import (
	"maps"
	"slices"
	"time"

	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// guestList is the list of machines of a session that arms none: who has
// registered, who was given the image, and who is named and has yet to come.
// One whose network card isn't known is in golden-serve status only.
func (d *deployment) guestList() []Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.guests
	list := map[string]Machine{}
	if g != nil {
		for mac, since := range g.places() {
			list[mac] = Machine{MAC: mac, State: roster.Booting, Since: since, By: roster.ByComing}
		}
		for _, m := range g.Named {
			if g.Boot == nil || g.listed(m.MAC) {
				list[m.MAC] = Machine{MAC: m.MAC, State: roster.Armed, Since: d.begun, By: roster.ByList, Number: m.Number, Name: g.nameOf(m.MAC, m.Number)}
			}
		}
		if g.Boot != nil {
			for _, s := range g.Boot.MACs {
				if mac, err := roster.ParseMAC(s); err == nil && list[mac].MAC == "" {
					list[mac] = Machine{MAC: mac, State: roster.Armed, Since: d.begun, By: roster.ByList}
				}
			}
		}
	}
	for _, n := range d.nodes {
		if mac, err := roster.ParseMAC(n.MAC); err == nil {
			list[mac] = n.guest(mac, g)
		}
	}
	out := slices.AppendSeq([]Machine{}, maps.Values(list)) // an empty list is no null in JSON
	slices.SortFunc(out, func(a, b Machine) int { return roster.Order(&a, &b) })
	return out
}

// guest is a machine that has registered, as a line of the list.
func (n *Node) guest(mac string, g *guests) Machine {
	m := Machine{MAC: mac, Since: n.arrived, Number: n.Number, Name: n.Hostname, Address: host(n.Addr), UUID: n.UUID, Last: string(n.State())}
	if n.Stage == wire.RunRAM && g != nil {
		m.Name = g.nameOf(n.MAC, n.id())
	}
	switch s := n.State(); s {
	case "":
		m.State, m.Last = roster.Seen, "waiting"
	case status.Done, status.Released:
		m.State = roster.Done
	default:
		m.State = roster.State(s) // "failed" is the same word
	}
	if in := n.in(time.Now()); in > 0 {
		m.Since = time.Now().Add(-in)
	}
	if f := n.Fault(); f != nil {
		m.Error = f.Stage + ": " + f.Cause
	}
	return m
}

// places are the machines that were given the image, and when.
func (g *guests) places() map[string]time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expire(time.Now())
	out := map[string]time.Time{}
	for mac, p := range g.has {
		out[mac] = p.since
	}
	return out
}
