package golden

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// Two golden nodes that boot machines on one network get along if each has
// named its machines, and none is named by both. One that takes whatever
// machine comes would take the other's, so it has to be alone. Who comes second
// asks, and doesn't begin. Both listen before they ask: of two that begin at
// once, one at least hears of the other.

// Questions to other golden nodes: so often, for a packet may be lost, and so
// long for the answers to the last.
const (
	rivalTries = 3
	rivalWait  = 500 * time.Millisecond
)

// bootAlone serves the boot servers, unless another golden node would boot the
// same machines.
func (h *hub) bootAlone(ctx context.Context, boot func(context.Context) error) error {
	var all claim
	asks := false
	for _, d := range h.all {
		c, boots := d.claim()
		asks = asks || boots
		all.any, all.macs = all.any || boots && c.any, append(all.macs, c.macs...)
	}
	if asks {
		if err := h.refuseRivals(ctx, all); err != nil {
			if ctx.Err() != nil {
				return nil // interrupted
			}
			return err
		}
	}
	return boot(ctx)
}

func (h *hub) refuseRivals(ctx context.Context, own claim) error {
	for macs := own.macs; ; {
		part := macs[:min(len(macs), wire.MaxAsked)]
		macs = macs[len(part):]
		found, err := h.askRivals(ctx, wire.RivalRequest{Golden: h.run, MACs: part})
		if err != nil {
			return err
		}
		for _, r := range found {
			if err := h.conflict(r, own.any); err != nil {
				return err
			}
		}
		if len(macs) == 0 {
			return nil
		}
	}
}

// rival is another golden node's session.
type rival struct {
	addr netip.Addr
	wire.RivalReply
}

// conflict tells what would go wrong beside a rival. whoever: this golden would
// take whatever machine comes.
func (h *hub) conflict(r rival, whoever bool) error {
	who := fmt.Sprintf("the golden node at %s boots machines on this network for session %q", r.addr, printable(r.Session))
	switch {
	case len(r.MACs) > 0:
		return fmt.Errorf("%s, and machine %s is one of them: take it out of one of the lists", who, printable(r.MACs[0]))
	case r.Any && whoever:
		return fmt.Errorf("%s, whatever machine comes, and so would this one: name the machines of both with --macs or --nodes-file", who)
	case r.Any:
		return fmt.Errorf("%s, whatever machine comes, those of this session too: name its machines there with --macs or --nodes-file", who)
	case whoever:
		return fmt.Errorf("%s: this one would take them, too: name its machines with --macs or --nodes-file", who)
	}
	h.log.Info("another golden node boots machines on this network, and the machines of both are named", "addr", r.addr, "session", printable(r.Session))
	return nil
}

// askRivals hears who answers in each of golden's networks.
func (h *hub) askRivals(ctx context.Context, q wire.RivalRequest) (found []rival, err error) {
	pc, err := net.ListenPacket("udp4", ":0") // Go sets SO_BROADCAST on every UDP socket
	if err != nil {
		return nil, fmt.Errorf("look for other golden nodes: %w", err)
	}
	defer pc.Close()
	defer context.AfterFunc(ctx, func() { pc.SetReadDeadline(time.Unix(1, 0)) })()
	b := make([]byte, 2048)
	for range rivalTries {
		for _, to := range broadcasts(h.addrs) {
			// One network that can't be asked must not keep golden from the others.
			if _, err := pc.WriteTo(q.Marshal(), &net.UDPAddr{IP: to, Port: wire.ControlPort}); err != nil {
				h.log.Debug("look for other golden nodes", "to", to, "err", err)
			}
		}
		pc.SetReadDeadline(time.Now().Add(rivalWait))
		for ctx.Err() == nil {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				break // the time is up
			}
			r, ok := wire.ParseRivalReply(b[:n])
			if !ok || r.Golden == h.run {
				continue
			}
			addr := from.(*net.UDPAddr).AddrPort().Addr().Unmap()
			if !slices.ContainsFunc(found, func(o rival) bool { return o.Golden == r.Golden && o.Session == r.Session }) {
				found = append(found, rival{addr, r})
			}
		}
		if ctx.Err() != nil {
			return nil, errors.Join(errors.New("look for other golden nodes"), ctx.Err())
		}
	}
	return found, nil
}

// broadcasts are the broadcast addresses of the networks in which golden has
// these addresses.
func broadcasts(own []netip.Addr) (out []net.IP) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() || p.Addr().IsLoopback() || p.Bits() > 30 || len(own) > 0 && !slices.Contains(own, p.Addr()) {
			continue
		}
		b := p.Addr().As4()
		for i := p.Bits(); i < 32; i++ {
			b[i/8] |= 1 << (7 - i%8)
		}
		out = append(out, b[:])
	}
	return out
}
