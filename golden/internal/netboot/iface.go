package netboot

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// link is the interface that is served.
type link struct {
	name  string
	hw    net.HardwareAddr
	mtu   int
	index atomic.Int32 // changes when the interface is made anew
	self  netip.Prefix
	own   atomic.Pointer[hostAddrs]
}

// hostAddrs are this machine's own, of all interfaces: never answered.
type hostAddrs struct {
	macs map[[6]byte]bool
	ips  map[netip.Addr]bool
}

// ownEvery is how often they are read again: an address added to a running
// machine is known so soon.
const ownEvery = 5 * time.Second

func readHostAddrs() (*hostAddrs, error) {
	h := &hostAddrs{macs: map[[6]byte]bool{}, ips: map[netip.Addr]bool{}}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range all {
		if len(i.HardwareAddr) == 6 && [6]byte(i.HardwareAddr) != [6]byte{} { // lo has none
			h.macs[[6]byte(i.HardwareAddr)] = true
		}
	}
	as, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range as {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			h.ips[p.Addr().Unmap()] = true
		}
	}
	return h, nil
}

// watchOwn keeps our own addresses up to date until ctx ends.
func (l *link) watchOwn(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(ownEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h, err := readHostAddrs()
		if err != nil {
			log.Debug("own addresses", "err", err) // those of before hold
			continue
		}
		l.own.Store(h)
	}
}

// openLink finds the interface and our address on it, and says what to do
// if one of them is missing.
func openLink(name string, addr netip.Prefix) (*link, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w (there are: %s)", name, err, interfaceNames())
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("interface %s is no Ethernet interface: netboot needs one", name)
	}
	if ifi.Flags&net.FlagUp == 0 {
		return nil, fmt.Errorf("interface %s is down: ip link set %s up", name, name)
	}
	l := &link{name: name, hw: ifi.HardwareAddr, mtu: ifi.MTU, self: addr}
	l.index.Store(int32(ifi.Index))
	addrs, err := ipv4Addrs(ifi)
	if err != nil {
		return nil, err
	}
	if err := l.choose(addrs); err != nil {
		return nil, err
	}
	own, err := readHostAddrs()
	if err != nil {
		return nil, err
	}
	l.own.Store(own)
	return l, nil
}

func (l *link) choose(addrs []netip.Prefix) error {
	name := l.name
	if len(addrs) == 0 {
		return fmt.Errorf("interface %s has no IPv4 address: give it one (ip address add 10.77.0.1/24 brd + dev %s) or name another with --interface", name, name)
	}
	if !l.self.IsValid() {
		l.self = addrs[0]
		return nil
	}
	for _, a := range addrs {
		if a.Addr() == l.self.Addr() {
			return nil
		}
	}
	return fmt.Errorf("address %v is not on interface %s, which has %v", l.self.Addr(), name, addrs)
}

func ipv4Addrs(ifi *net.Interface) ([]netip.Prefix, error) {
	as, err := ifi.Addrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", ifi.Name, err)
	}
	var out []netip.Prefix
	for _, a := range as {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			out = append(out, p)
		}
	}
	return out, nil
}

func interfaceNames() string {
	all, err := net.Interfaces()
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return strings.Join(names, ", ")
}

// bindTo makes a socket see this interface's traffic only.
func (l *link) bindTo(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = unix.BindToDevice(int(fd), l.name)
	})
	if cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("bind to device %s: %w", l.name, err)
	}
	return nil
}

// listenUDP binds a port on our address: also programs of this machine reach
// it, and mayAsk keeps others out.
func (l *link) listenUDP(port int) (*net.UDPConn, error) {
	return l.udp(net.ListenConfig{}, l.self.Addr(), port)
}

// listenBroadcast binds a port for what comes and goes by this interface
// only, broadcasts included.
func (l *link) listenBroadcast(addr netip.Addr, port int) (*net.UDPConn, error) {
	return l.udp(net.ListenConfig{Control: l.bindTo}, addr, port)
}

func (l *link) udp(lc net.ListenConfig, addr netip.Addr, port int) (*net.UDPConn, error) {
	pc, err := lc.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(addr, uint16(port)).String())
	if err != nil {
		return nil, l.portError("udp", port, err)
	}
	return pc.(*net.UDPConn), nil
}

func (l *link) listenTCP(port int) (net.Listener, error) {
	ln, err := net.Listen("tcp4", netip.AddrPortFrom(l.self.Addr(), uint16(port)).String())
	if err != nil {
		return nil, l.portError("tcp", port, err)
	}
	return ln, nil
}
