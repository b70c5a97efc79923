package golden

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/internal/roster"
)

// Of several deployments of one golden-serve each has the machines that it
// names, and those that the administrator armed in it. A machine of none boots
// no image.

// disjoint refuses deployments of which one could take another's machine.
func disjoint(all []*deployment) error {
	sessions, owners, clones := map[string]bool{}, map[string]string{}, 0
	for _, d := range all {
		if d.clone != nil {
			clones++
		}
	}
	for _, d := range all {
		if sessions[d.Session] {
			return fmt.Errorf("session %q is there twice", d.Session)
		}
		sessions[d.Session] = true
		if d.clone == nil {
			continue
		}
		if clones > 1 && !d.states.Listed() {
			return fmt.Errorf("session %q would take any machine that boots, of other sessions too: name its machines", d.Session)
		}
		for _, s := range d.clone.Boot.MACs {
			mac, err := roster.ParseMAC(s)
			if err != nil {
				return err
			}
			if other, twice := owners[mac]; twice && other != d.Session {
				return fmt.Errorf("machine %s is of two sessions: %q and %q", mac, other, d.Session)
			}
			owners[mac] = d.Session
		}
	}
	return nil
}

// holder is whose a machine is, or nil. Who is on a list is of that session,
// whatever has happened before.
func (h *hub) holder(mac string) *deployment {
	own, err := roster.ParseMAC(mac)
	if h == nil || err != nil {
		return nil
	}
	for _, has := range []func(*roster.Roster, string) bool{(*roster.Roster).Names, (*roster.Roster).Has} {
		for _, d := range h.all {
			if d.states != nil && has(d.states, own) {
				return d
			}
		}
	}
	return nil
}

// elsewhere tells that a machine is another deployment's.
func (h *hub) elsewhere(d *deployment, mac string) error {
	if o := h.holder(mac); o != nil && o != d {
		return fmt.Errorf("machine %s is one of session %q", mac, o.Session)
	}
	return nil
}

// decide answers the boot servers: whose the machine is, decides. Any
// deployment may tell a stranger to boot its disk; the image it has from the
// only one that names nobody, as long as it is the only one.
func (h *hub) decide(c netboot.Client) netboot.Answer {
	list := h.clones()
	if d := h.holder(c.MAC.String()); d != nil {
		list = []*deployment{d}
	}
	best := netboot.Silent
	for _, d := range list {
		a := decide(d.states, c)
		if a == netboot.BootImage && d.over.Load() {
			a = netboot.LocalBoot
		}
		best = max(best, a)
	}
	if best == netboot.BootImage && len(list) > 1 {
		return netboot.LocalBoot // disjoint lets none be that open
	}
	return best
}

func (h *hub) clones() (list []*deployment) {
	for _, d := range h.all {
		if d.states != nil {
			list = append(list, d)
		}
	}
	return list
}

// heard takes in a step of a machine's boot.
func (h *hub) heard(e netboot.Event) {
	list := h.clones()
	if d := h.holder(e.MAC.String()); d != nil {
		list = []*deployment{d}
	}
	for _, d := range list {
		heard(d.states, e)
	}
}

// boot makes the boot servers, by the first clone's settings and for the
// machines of all.
func (h *hub) boot() (bootServers, error) {
	list := h.clones()
	if len(list) == 0 {
		return nil, nil
	}
	b := list[0].clone.Boot
	var err error
	if b.Named, err = namedOf(list); err != nil {
		return nil, err
	}
	cfg, err := b.config(h, h.log)
	if err != nil {
		return nil, err
	}
	return b.servers(cfg, h.addrs, h.words, h.log)
}

// namedOf is what the nodes files of all say. Of a machine that is in several,
// what its session's says counts: whose machine it is, has it in its list.
func namedOf(list []*deployment) ([]Named, error) {
	var out []Named
	from := map[string]*deployment{}
	for _, d := range list {
		for _, n := range d.clone.Boot.Named {
			if slices.ContainsFunc(list, func(o *deployment) bool { return o != d && o.states.Names(n.MAC) }) {
				continue
			}
			i := slices.IndexFunc(out, func(o Named) bool { return o.MAC == n.MAC })
			switch {
			case i < 0:
				out, from[n.MAC] = append(out, n), d
			case !bootsAlike(out[i], n):
				return nil, fmt.Errorf("machine %s is in the nodes files of sessions %q and %q, which don't say the same of it", n.MAC, from[n.MAC].Session, d.Session)
			}
		}
	}
	return out, nil
}

func bootsAlike(a, b Named) bool {
	return a.Label == b.Label && a.Name == b.Name && (a.Number == b.Number || a.Local()) &&
		slices.Equal(a.Words(), b.Words()) && slices.Equal(a.Addresses, b.Addresses)
}

// words are what stage 1 hears in the network where golden has this address.
func (h *hub) words(c *netboot.Config, addr netip.Addr) error {
	list := h.clones()
	text := func(d *deployment) string { return strings.Join(d.words(addr), " ") }
	if len(list) == 1 {
		c.Append = text(list[0])
		return nil
	}
	c.Words = func(m netboot.Client) string {
		d := h.holder(m.MAC.String())
		if d == nil {
			return "" // it isn't told to boot the image
		}
		return text(d)
	}
	var errs []error
	for _, d := range list {
		errs = append(errs, netboot.CheckWords(text(d)))
	}
	return errors.Join(errs...)
}

// claim is which machines a deployment boots: what other golden nodes on the
// network have to know of it.
type claim struct {
	any  bool     // whatever machine comes
	macs []string // or these
	has  func(mac string) bool
}

// claim tells whether machines that boot from the network are offered our boot
// loader, and which. Without, whoever runs the boot server says to whom they
// go, by kaopt=NAME.
func (d *deployment) claim() (c claim, boots bool) {
	switch g := d.guests; {
	case d.clone != nil:
		return claim{any: !d.states.Listed(), macs: d.clone.Boot.MACs, has: func(mac string) bool { return d.states.Names(mac) || d.states.Has(mac) }},
			d.clone.Boot.DHCP != netboot.DHCPOff
	case g != nil && g.Boot != nil:
		return claim{any: len(g.Boot.MACs) == 0, macs: g.Boot.MACs, has: g.holds}, g.Boot.DHCP != netboot.DHCPOff
	}
	return claim{}, false
}
