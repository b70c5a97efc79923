package crowd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"
)

// machine is a ROM that wants an address.
type machine struct {
	first *dhcpv4.DHCPv4 // its DISCOVER
	say   *dhcpv4.DHCPv4 // said last
	until time.Time      // then it says so again
	wait  time.Duration
	done  bool
}

// begin has the machine ask for an address from the start.
func (m *machine) begin(at time.Time) { m.say, m.until, m.wait = m.first, at, firstWait }

// As ROMs wait: twice as long each time, each a little differently; who isn't
// heard for so long starts again (RFC 2131, 4.1).
const (
	firstWait = time.Second
	lastWait  = 8 * time.Second
)

// storm switches all machines on in one moment and waits until each has been
// acknowledged. One that hears nothing asks again after 1, 2, 4, … seconds, as
// ROMs do.
func (o Order) storm(ctx context.Context) (r Result, err error) {
	c, err := clientPort(ctx)
	if err != nil {
		return r, err
	}
	defer func() { _ = c.Close() }()
	all := map[dhcpv4.TransactionID]*machine{}
	// Scattered, for dnsmasq offers an address that it has worked out of the
	// MAC, to several at once if they are neighbours.
	macs := rand.New(rand.NewPCG(1, 2))
	for i := range o.Clients {
		x := macs.Uint32()
		m, err := dhcpv4.New(dhcpv4.WithHwAddr(net.HardwareAddr{0x52, 0x54, byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}),
			dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithBroadcast(true),
			dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, byte(i >> 16), byte(i >> 8), byte(i)}),
			dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")),
			dhcpv4.WithOption(dhcpv4.OptClientArch(iana.INTEL_X86PC)))
		if err != nil {
			return r, err
		}
		all[m.TransactionID] = &machine{first: m, say: m, wait: firstWait}
	}
	start := time.Now()
	left := len(all)
	buf := make([]byte, 2048)
	for ctx.Err() == nil && left > 0 {
		now := time.Now()
		for _, m := range all {
			if err := m.speak(c, now); err != nil {
				return r, err
			}
		}
		for until := now.Add(50 * time.Millisecond); left > 0 && time.Now().Before(until); {
			if err := c.SetReadDeadline(until); err != nil {
				return r, err
			}
			n, _, err := c.ReadFromUDP(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return r, err
			}
			got, err := dhcpv4.FromBytes(buf[:n])
			if err != nil || all[got.TransactionID] == nil {
				continue
			}
			m := all[got.TransactionID]
			if err := m.hear(got, c); err != nil {
				return r, err
			}
			if got.MessageType() == dhcpv4.MessageTypeAck && m.done {
				delete(all, got.TransactionID)
				left--
				r.Seconds = time.Since(start).Seconds()
			}
		}
	}
	if r.Failed = left; left > 0 {
		r.Cause = fmt.Sprintf("%d machines have no address after %v", left, time.Since(start).Round(time.Second))
	}
	return r, nil
}

// speak says the last again when its time has come.
func (m *machine) speak(c *net.UDPConn, now time.Time) error {
	if now.Before(m.until) {
		return nil
	}
	if m.wait > lastWait {
		m.begin(now)
	}
	m.until = now.Add(m.wait + rand.N(m.wait/4))
	m.wait *= 2
	_, err := c.WriteToUDP(m.say.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 67})
	return err
}

func (m *machine) hear(got *dhcpv4.DHCPv4, c *net.UDPConn) error {
	switch {
	case got.MessageType() == dhcpv4.MessageTypeAck && m.say.MessageType() == dhcpv4.MessageTypeRequest:
		m.done = true
	case got.MessageType() == dhcpv4.MessageTypeOffer && m.say.MessageType() == dhcpv4.MessageTypeDiscover:
		req, err := dhcpv4.NewRequestFromOffer(got, dhcpv4.WithBroadcast(true),
			dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")),
			dhcpv4.WithOption(dhcpv4.OptClientArch(iana.INTEL_X86PC)))
		if err != nil {
			return err
		}
		m.say, m.wait, m.until = req, firstWait, time.Time{}
		return m.speak(c, time.Now())
	case got.MessageType() == dhcpv4.MessageTypeNak && m.say.MessageType() == dhcpv4.MessageTypeRequest:
		m.begin(time.Now().Add(firstWait))
	}
	return nil
}

// clientPort is port 68 with room for the answers of all.
func clientPort(ctx context.Context) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		cerr := rc.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
				unix.BindToDevice(int(fd), "eth0"))
		})
		return errors.Join(cerr, err)
	}}
	p, err := lc.ListenPacket(ctx, "udp4", "0.0.0.0:68")
	if err != nil {
		return nil, err
	}
	return p.(*net.UDPConn), nil
}
