package golden

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// CloneConfig is what a clone needs beside Config.
type CloneConfig struct {
	Config
	Boot    Boot
	Plan    wire.Plan
	Named   []Named             // machines of a nodes file, and who they become
	Stage2  chain.Source        // rescue.sqfs
	Tree    chain.Source        // golden's files
	Confirm func([]*Node) error // shows the machines whose disks will be erased, and asks
	Delay   time.Duration       // between the releases of two nodes
	Hold    bool                // nodes that are done, or that have failed and kept a shell, wait for the administrator's release
	ArmFor  time.Duration       // an armed machine has so long to begin, and again to come; 0: half an hour, or Wait if that is longer
	Linger  time.Duration       // stays so long at most to tell released nodes to boot their disks
	Wants   *Wants              // who may take part, beside Nodes and Boot.MACs; nil: all
	Fits    func(*Node) error   // refuses a node in stage 2 before anything is asked; nil: none
	Fetch   bool                // machines in stage 1 get Tree, and that is all: there is no Stage2
}

// Clone turns machines that boot from the network into copies of this one;
// flow says how.
func Clone(ctx context.Context, c CloneConfig) (Result, error) {
	return alone(ctx, Job{Clone: &c})
}

// Wants says who may take part in a clone, where it isn't the administrator's
// list of network cards that does.
type Wants struct {
	Register func(wire.Register) error              // who registers: why it may not
	Arrived  func(wire.Register)                    // who was let in
	Boot     func(mac string, addr netip.Addr) bool // who boots from the network; addr may be zero
}

// labelDolly is the manual's label for machines that get disks and files.
const labelDolly = "dolly"

func newClone(c CloneConfig) (_ *deployment, err error) {
	d := newDeployment(c.Config)
	c.Config = d.Config
	if c.Fetch || len(c.Plan.Copies) > 0 {
		c.Boot.Label = labelDolly // a machine that boots as kamethod takes no copies
	}
	if c.Fetch {
		c.Linger = 0 // it doesn't boot again: it looks for who has its disks
	}
	d.clone = &c
	if err := checkIdentity(c.Plan.Identity); err != nil {
		return nil, err
	}
	if c.Plan.Identity.Mode == wire.IdentitySame && c.Nodes > 1 {
		return nil, fmt.Errorf("identity %s: only one machine can be what this one is, and %d are to be cloned", wire.IdentitySame, c.Nodes)
	}
	if len(c.Named) > 0 {
		d.server.know(numbersOf(d.Book.numbers(), c.Named))
	}
	// A machine that booted from the administrator's own server has heard no
	// token. Who may come is decided by roster all the same.
	d.server.Open = c.Boot.DHCP == netboot.DHCPOff
	if d.states, err = openStates(c); err != nil {
		return nil, err
	}
	switch {
	case c.Fetch:
		d.tree, err = d.ferry("sending stage 2", c.Tree)
	default:
		if d.stage2, err = d.ferry("sending stage 2", c.Stage2); err == nil {
			d.tree, err = d.ferry("sending the golden node", c.Tree)
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.states.Close())
	}
	return d, nil
}

// words are what stage 1 hears on its kernel command line, in the network
// where golden has this address.
func (d *deployment) words(addr netip.Addr) []string {
	return []string{
		fmt.Sprintf("ka.server=%s", netip.AddrPortFrom(addr, uint16(d.Control))),
		"ka.token=" + d.Token, "kaopt=" + d.Session,
		// Nothing but our own programs runs there, and a clone is half a
		// million system calls: the guards between a processor's programs
		// cost time and protect nobody (admin-guide/kernel-parameters.txt).
		"mitigations=off",
	}
}

// linger answers the nodes' next network boot: those that boot from the
// network first must hear that they are to boot their disks.
func (d *deployment) linger(ctx context.Context) {
	limit := d.clone.Linger
	var nodes []string
	d.mu.Lock()
	for _, n := range d.nodes {
		if n.State() == status.Released {
			nodes = append(nodes, n.MAC)
		}
	}
	if limit > 0 && len(nodes) > 0 {
		d.setPhase(fmt.Sprintf("nodes reboot; their network boots are answered for %s at most", limit))
	}
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !d.states.Home(nodes) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pingEvery / 4):
		}
	}
}

// Ready is how the node has made its disks, or nil.
func (n *Node) Ready() *wire.DiskResult {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ready
}

// hostname fills a node's number into the template.
func hostname(template string, number int) string {
	if template == "" {
		template = "node%d"
	}
	if !strings.Contains(template, "%") {
		return template
	}
	return fmt.Sprintf(template, number)
}

// checkHostname refuses a template that would not make host names (RFC 1123,
// section 2.1: letters, digits, hyphens).
func checkHostname(template string) error {
	rest := template
	for _, verb := range []string{"%d", "%02d", "%03d", "%04d"} {
		if i := strings.Index(rest, verb); i >= 0 {
			rest = rest[:i] + "1" + rest[i+len(verb):]
			break
		}
	}
	for _, c := range rest {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.", c) {
			return fmt.Errorf("host name template %q: %q is not allowed; want letters, digits, hyphens and one %%d or %%03d", template, c)
		}
	}
	return nil
}
