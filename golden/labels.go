package golden

import (
	"net"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/templates"
)

// own has a boot server tell each machine of a nodes file what it boots: its
// label's words and its node_id. One that is to boot its disk never hears the
// image. One whose label brings up the rescue system alone always does: it
// takes no part in the session, hears none of its words, least of all its
// token, and nothing is erased by it.
func (b Boot) own(c *netboot.Config) {
	if len(b.Named) == 0 {
		return
	}
	list := map[string]Named{}
	for _, n := range b.Named {
		list[n.MAC] = n
	}
	c.Own = func(mac net.HardwareAddr) netboot.Own {
		n, ok := list[mac.String()]
		if !ok {
			return netboot.Own{}
		}
		return netboot.Own{Label: n.Label, Boot: n.Words(), NodeID: n.Number}
	}
	words, all := c.Words, c.Append
	c.Words = func(m netboot.Client) string {
		switch n, ok := list[m.MAC.String()]; {
		case ok && n.Rescue():
			return ""
		case words != nil:
			return words(m)
		}
		return all
	}
	decide := c.Decide
	c.Decide = func(m netboot.Client) netboot.Answer {
		a := decide(m)
		switch n, ok := list[m.MAC.String()]; {
		case ok && n.Local():
			return min(a, netboot.LocalBoot)
		case ok && n.Rescue():
			return netboot.BootImage
		}
		return a
	}
}

// TakingPart are the machines of a nodes file that a session is for: those
// whose label clones them, and where golden-serve run sends what runs in their
// memory, those of label diskless too. The others boot their disks, or the
// rescue system.
func TakingPart(list []Named, diskless bool) []Named {
	var out []Named
	for _, n := range list {
		if n.Cloned() || diskless && n.Label == templates.LabelDiskless {
			out = append(out, n)
		}
	}
	return out
}
