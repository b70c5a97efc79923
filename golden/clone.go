package golden

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// How long the phases of a node may take that have no progress to judge by.
const (
	maxStep    = 10 * time.Minute // from stage 1 into stage 2
	maxPrepare = 30 * time.Minute // partition, format, mount
)

// CloneConfig is what a clone needs beside Config.
type CloneConfig struct {
	Config
	Boot    Boot
	Plan    wire.Plan
	Stage2  chain.Source        // rescue.sqfs
	Tree    chain.Source        // golden's files
	Confirm func([]*Node) error // shows the machines whose disks will be erased, and asks
	Delay   time.Duration       // between the releases of two nodes
	Linger  time.Duration       // stays so long at most to tell released nodes to boot their disks
}

// Clone turns machines that boot from the network into copies of this one.
//
//	gather stage 1 ▶ send stage 2 ▶ gather stage 2 ▶ confirm ▶ prepare disks
//	   ▶ send the tree ▶ each fixes itself up ▶ release
func Clone(ctx context.Context, c CloneConfig) (Result, error) {
	arms, err := newArms(c.Nodes, c.Boot.MACs, c.Log)
	if err != nil {
		return Result{}, err
	}
	d := newDeployment(c.Config)
	serveBoot, closeBoot, err := d.boot(c, arms)
	if err != nil {
		return Result{}, err
	}
	defer closeBoot()
	// A machine that booted from the administrator's own server has heard no
	// token. Who may come is decided by arms all the same.
	d.server.Open = c.Boot.DHCP == netboot.DHCPOff
	d.server.Admit = func(r wire.Register) error { return d.admitClone(arms, r) }
	d.seen = arms.seen
	err = d.serve(ctx, serveBoot, func(ctx context.Context) error { return d.clone(ctx, c, arms) })
	r := d.result()
	for i := range r.Nodes {
		r.Nodes[i].Hostname = hostname(c.Plan.Identity.Hostname, r.Nodes[i].Number)
	}
	return r, err
}

// boot makes the boot servers. With DHCP off there may be a TFTP server here
// already, which has the tree that make image made: then it does all that.
func (d *deployment) boot(c CloneConfig, a *arms) (serve func(context.Context) error, done func() error, err error) {
	s, err := c.Boot.server(a, d.words(), c.Log)
	if c.Boot.DHCP == netboot.DHCPOff && errors.Is(err, syscall.EADDRINUSE) {
		d.Log.Info("the boot files are left to the server that is here", "err", err)
		return nil, func() error { return nil }, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return s.Serve, s.Close, nil
}

// words are what stage 1 hears on its kernel command line.
func (d *deployment) words() []string {
	return []string{
		fmt.Sprintf("ka.server=%s", netip.AddrPortFrom(d.Addr, uint16(d.Control))),
		"ka.token=" + d.Token, "kaopt=" + d.Session,
		// Nothing but our own programs runs there, and a clone is half a
		// million system calls: the guards between a processor's programs
		// cost time and protect nobody (admin-guide/kernel-parameters.txt).
		"mitigations=off",
	}
}

func (d *deployment) clone(ctx context.Context, c CloneConfig, a *arms) error {
	first, err := d.gather(ctx, wire.Stage1)
	if err != nil {
		return err
	}
	for _, n := range first {
		n.setState(status.Stepping)
	}
	if err := d.transfer(ctx, "sending stage 2", c.Stage2, first); err != nil {
		return err
	}
	nodes, err := d.arrivals(ctx, first)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return nil // each has its cause
	}
	if err := c.Confirm(nodes); err != nil {
		return err
	}
	d.touched = true
	if nodes, err = d.prepare(ctx, c.Plan, nodes); err != nil {
		return err
	}
	if len(nodes) == 0 {
		return nil // each has its cause
	}
	for _, n := range nodes {
		n.setState(status.Receiving)
	}
	if err := d.transfer(ctx, "sending the golden node", c.Tree, nodes); err != nil {
		return err
	}
	d.setPhase("nodes become machines of their own")
	if err := d.confirm(ctx, wire.Stage2); err != nil {
		return err
	}
	released := d.in(wire.Stage2)
	d.release(ctx, released, true, c.Delay)
	d.linger(ctx, a, released, c.Linger)
	return nil
}

// linger answers the nodes' next network boot: those that boot from the
// network first must hear that they are to boot their disks.
func (d *deployment) linger(ctx context.Context, a *arms, nodes []*Node, limit time.Duration) {
	if limit <= 0 || len(nodes) == 0 {
		return
	}
	d.setPhase(fmt.Sprintf("nodes reboot; their network boots are answered for %s at most", limit))
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !a.allHome(nodes) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pingEvery / 4):
		}
	}
}

// admitClone takes armed machines in stage 1 before the stage 2 transfer, and
// in stage 2 those that were in stage 1.
func (d *deployment) admitClone(a *arms, r wire.Register) error {
	if err := a.admit(r); err != nil {
		return err
	}
	switch r.Stage {
	case wire.Stage1:
		return d.roomFor(r)
	case wire.Stage2:
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, n := range d.nodes {
			if n.MAC == r.MAC && n.State() != status.Failed {
				return nil
			}
		}
		return errors.New("this machine was not in stage 1 of the session, or has failed in it")
	}
	return fmt.Errorf("a clone takes no %q: karecv goes with golden-serve send", r.Stage)
}

// arrivals waits for the machines to come back in stage 2.
func (d *deployment) arrivals(ctx context.Context, first []*Node) ([]*Node, error) {
	d.setPhase("waiting for stage 2")
	want := 0
	for _, n := range first {
		if n.State() != status.Failed {
			want++
		}
	}
	err := d.await(ctx, maxStep, func() bool {
		failed := 0
		for _, n := range d.nodes {
			if n.Stage == wire.Stage2 && n.State() == status.Failed {
				failed++
			}
		}
		return len(d.in(wire.Stage2))+failed >= want
	})
	if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.nodes {
		if n.Stage == wire.Stage1 {
			n.fail(string(status.Stepping), fmt.Sprintf("did not come back in stage 2 within %s", maxStep))
		}
	}
	return d.in(wire.Stage2), nil
}

// prepare has every node make its disks, and lists those that are ready.
func (d *deployment) prepare(ctx context.Context, p wire.Plan, nodes []*Node) ([]*Node, error) {
	d.setPhase("nodes prepare their disks")
	for _, n := range nodes {
		own := p
		own.Identity.Hostname = hostname(p.Identity.Hostname, n.Number)
		n.setState(status.Preparing)
		n.Tell(wire.Order{Plan: &own})
	}
	err := d.await(ctx, maxPrepare, func() bool {
		for _, n := range d.in(wire.Stage2) {
			if n.Ready() == nil {
				return false
			}
		}
		return true
	})
	if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var ready []*Node
	for _, n := range d.in(wire.Stage2) {
		if n.Ready() == nil {
			n.fail(string(status.Preparing), fmt.Sprintf("took longer than %s", maxPrepare))
			continue
		}
		ready = append(ready, n)
	}
	return ready, nil
}

// Ready is how the node has made its disks, or nil.
func (n *Node) Ready() *wire.DiskResult {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ready
}

// release lets the nodes go, one after the other.
func (d *deployment) release(ctx context.Context, nodes []*Node, reboot bool, delay time.Duration) {
	for i, n := range nodes {
		if i > 0 && delay > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(delay):
			}
		}
		n.Tell(wire.Order{Release: &wire.Release{Reboot: reboot}})
		n.setState(status.Released)
	}
	time.Sleep(pingEvery) // for the orders to get there
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
