package netboot

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
)

// probeTime is the 3 s in which another server is to be found, and the time
// that dnsmasq's offer takes at worst: it pings an address for 3 s before.
const probeTime = 4 * time.Second

// ErrOtherServer is what errors.Is finds in an *OtherServerError.
var ErrOtherServer = errors.New("another DHCP server answers")

// OtherServerError says that full mode would be the second DHCP server.
type OtherServerError struct {
	Interface string
	Servers   []netip.Addr
}

func (e *OtherServerError) Error() string {
	return fmt.Sprintf("another DHCP server answers on %s: %v: use --dhcp proxy beside it, or stop it (--force serves all the same)", e.Interface, e.Servers)
}

// Is makes errors.Is(err, ErrOtherServer) true.
func (e *OtherServerError) Is(target error) bool { return target == ErrOtherServer }

// probe finds the DHCP servers that would give this machine an address on
// the interface, and takes none. It asks again each second. settle shortens the wait once a server is
// known; zero waits for all of them.
func (l *link) probe(ctx context.Context, wait, settle time.Duration) (servers []netip.Addr, err error) {
	c, err := openPacket(l, dhcpClientPort)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	m, err := dhcpv4.NewDiscovery(l.hw, dhcpv4.WithBroadcast(true))
	if err != nil {
		return nil, fmt.Errorf("make DISCOVER: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	end := time.Now().Add(wait)
	for time.Now().Before(end) && ctx.Err() == nil {
		if err := l.discover(c, m); err != nil {
			return servers, err
		}
		round := time.Now().Add(time.Second)
		if end.Before(round) {
			round = end
		}
		servers = l.offers(ctx, c, m.TransactionID, round, servers)
		if len(servers) > 0 && settle > 0 {
			break
		}
	}
	return servers, ctx.Err()
}

// discover asks twice: on the wire, and through the kernel's own broadcast,
// which a server on this same host hears.
func (l *link) discover(c *packet.Conn, m *dhcpv4.DHCPv4) error {
	all := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	g := datagram{src: netip.AddrPortFrom(netip.AddrFrom4([4]byte{}), dhcpClientPort),
		dst: netip.AddrPortFrom(all, dhcpServerPort), payload: m.ToBytes()}
	if _, err := c.WriteTo(g.bytes(), &packet.Addr{HardwareAddr: broadcastMAC()}); err != nil {
		return fmt.Errorf("send DISCOVER on %s: %w", l.name, err)
	}
	u, err := l.listenBroadcast(l.self.Addr(), 0)
	if err != nil {
		return err
	}
	if _, err := u.WriteToUDPAddrPort(g.payload, g.dst); err != nil {
		return errors.Join(fmt.Errorf("send DISCOVER on %s: %w", l.name, err), u.Close())
	}
	return u.Close()
}

// offers collects the servers that offer an address until a time.
func (l *link) offers(ctx context.Context, c *packet.Conn, xid dhcpv4.TransactionID, until time.Time, have []netip.Addr) []netip.Addr {
	if err := c.SetReadDeadline(until); err != nil {
		return have
	}
	buf := make([]byte, maxRequest)
	for ctx.Err() == nil {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return have // the time is up
		}
		g, err := parseDatagram(buf[:n])
		if err != nil {
			continue
		}
		m, err := dhcpv4.FromBytes(g.payload)
		if err != nil || m.TransactionID != xid || m.MessageType() != dhcpv4.MessageTypeOffer || !v4(m.YourIPAddr).IsValid() {
			continue // a proxy's offer has no address
		}
		id := v4(m.ServerIdentifier())
		if !id.IsValid() {
			id = g.src.Addr()
		}
		if !slices.Contains(have, id) {
			have = append(have, id)
		}
	}
	return have
}

// refuseSecond keeps full mode from being the second server of a network.
func (s *Server) refuseSecond(ctx context.Context) error {
	if s.cfg.DHCP != DHCPFull {
		return nil
	}
	servers, err := s.link.probe(ctx, probeTime, time.Millisecond)
	if err != nil {
		return fmt.Errorf("look for another DHCP server: %w", err)
	}
	if len(servers) == 0 {
		return nil
	}
	if s.cfg.Force {
		s.cfg.Log.Warn("another DHCP server answers, serving all the same", "servers", servers)
		return nil
	}
	return &OtherServerError{Interface: s.cfg.Interface, Servers: servers}
}
