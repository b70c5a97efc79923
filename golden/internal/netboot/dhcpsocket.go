package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	dhcpWorkers = 4    // a reply takes tens of microseconds
	dhcpQueue   = 64   // packets; beyond, they wait in the kernel, which drops what is over receiveBuffer
	maxRequest  = 1500 // larger requests are nobody's

	// A thousand machines that are switched on at once send as many packets
	// within a moment; the kernel counts some 1.3 kB for each.
	receiveBuffer = 8 << 20
)

// dhcpJob is one packet that waits for a worker.
type dhcpJob struct {
	b    []byte
	from netip.AddrPort
}

// dhcpSockets are what DHCP needs: raw sends to machines without an address
// and, in proxy mode, receives without taking the port away from a server
// on the same host. udp is nil then, and what goes to a relay leaves by ip.
type dhcpSockets struct {
	raw *packet.Conn
	udp *net.UDPConn
	ip  *ipv4.RawConn
}

func (s *Server) openDHCP() (*dhcpSockets, error) {
	var d dhcpSockets
	var err error
	if s.cfg.DHCP == DHCPFull {
		err = s.openFull(&d)
	} else {
		err = s.openProxy(&d)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return &d, nil
}

func (s *Server) openFull(d *dhcpSockets) (err error) {
	if d.udp, err = s.link.listenBroadcast(netip.AddrFrom4([4]byte{}), dhcpServerPort); err != nil {
		return err
	}
	if err := enlarge(d.udp, receiveBuffer); err != nil {
		return err
	}
	d.raw, err = openPacket(s.link, 0) // only to send
	return err
}

func (s *Server) openProxy(d *dhcpSockets) (err error) {
	if d.raw, err = openPacket(s.link, dhcpServerPort); err != nil {
		return err
	}
	if err := enlarge(d.raw, receiveBuffer); err != nil {
		return err
	}
	c, err := net.ListenPacket("ip4:255", s.link.self.Addr().String()) // IPPROTO_RAW: sends, receives nothing
	if err != nil {
		return fmt.Errorf("open raw socket: %w", err)
	}
	if d.ip, err = ipv4.NewRawConn(c); err != nil {
		return errors.Join(fmt.Errorf("raw socket: %w", err), c.Close())
	}
	return nil
}

// enlarge sets a socket's receive buffer, beyond what the kernel's limit for
// ordinary users allows where we may.
func enlarge(c syscall.Conn, bytes int) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("receive buffer: %w", err)
	}
	return rc.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) != nil {
			// What the limit gives is enough for a hundred machines.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
		}
	})
}

func (d *dhcpSockets) close() error {
	var errs []error
	if d.raw != nil {
		errs = append(errs, d.raw.Close())
	}
	if d.udp != nil {
		errs = append(errs, d.udp.Close())
	}
	if d.ip != nil {
		errs = append(errs, d.ip.Close())
	}
	return errors.Join(errs...)
}

// serveDHCP answers on port 67 until a socket fails or ctx ends.
func (s *Server) serveDHCP(ctx context.Context, d *dhcpSockets) error {
	stop := context.AfterFunc(ctx, func() { _ = d.close() }) // unblocks the reads
	defer stop()
	read := s.readRaw
	if d.udp != nil {
		read = s.readUDP67
	}
	return s.work(ctx, func(b []byte) (int, netip.AddrPort, error) { return read(d, b) },
		func(j dhcpJob) error { return s.answer67(d, j) })
}

// serveBootServer answers on port 4011.
func (s *Server) serveBootServer(ctx context.Context, c *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	return s.work(ctx, c.ReadFromUDPAddrPort, func(j dhcpJob) error {
		o, err := s.handleDHCP(j.b, proxyPort, j.from, time.Now())
		if o == nil || err != nil {
			return err
		}
		_, err = c.WriteToUDPAddrPort(o.wire, o.to)
		return err
	})
}

// work reads packets for a fixed number of workers. No worker waits for long:
// sockets take a packet or say no, and the lease file is a local one.
func (s *Server) work(ctx context.Context, read func([]byte) (int, netip.AddrPort, error), answer func(dhcpJob) error) error {
	jobs := make(chan dhcpJob, dhcpQueue)
	done := make(chan struct{})
	for range dhcpWorkers {
		go func() {
			defer func() { done <- struct{}{} }()
			for j := range jobs {
				s.guard("dhcp", func() error { return answer(j) })
			}
		}()
	}
	defer func() {
		close(jobs)
		for range dhcpWorkers {
			<-done
		}
	}()
	buf := make([]byte, maxRequest+ipHeaderLen+udpHeaderLen)
	for {
		n, from, err := read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read DHCP packet: %w", err)
		}
		if n == 0 {
			continue
		}
		jobs <- dhcpJob{b: append([]byte(nil), buf[:n]...), from: from}
	}
}

func (s *Server) readUDP67(d *dhcpSockets, b []byte) (int, netip.AddrPort, error) {
	n, from, err := d.udp.ReadFromUDPAddrPort(b)
	return n, from, err
}

// readRaw unwraps a packet in place; a malformed one has no bytes.
func (s *Server) readRaw(d *dhcpSockets, b []byte) (int, netip.AddrPort, error) {
	n, _, err := d.raw.ReadFrom(b)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	g, err := parseDatagram(b[:n])
	if err != nil || !s.meant(g.dst.Addr()) {
		return 0, netip.AddrPort{}, nil
	}
	return copy(b, g.payload), g.src, nil
}

// meant says whether a packet is for all or for us: a router sees what passes
// from a relay to another server too.
func (s *Server) meant(dst netip.Addr) bool {
	return dst == s.link.self.Addr() || dst == broadcastOf(s.link.self) || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func (s *Server) answer67(d *dhcpSockets, j dhcpJob) error {
	o, err := s.handleDHCP(j.b, dhcpServerPort, j.from, time.Now())
	if o == nil || err != nil {
		return err
	}
	if o.bare && d.udp != nil {
		_, err = d.udp.WriteToUDPAddrPort(o.wire, o.to)
		return err
	}
	g := datagram{src: netip.AddrPortFrom(s.link.self.Addr(), dhcpServerPort), dst: o.to, payload: o.wire}
	if o.bare { // a proxy has no port 67 of its own
		return sendRouted(d.ip, g.bytes())
	}
	if _, err := d.raw.WriteTo(g.bytes(), &packet.Addr{HardwareAddr: o.hw}); err != nil {
		return fmt.Errorf("send DHCP reply to %v: %w", o.hw, err)
	}
	return nil
}

// sendRouted has the kernel find the way of a packet.
func sendRouted(c *ipv4.RawConn, b []byte) error {
	h, err := ipv4.ParseHeader(b)
	if err != nil {
		return fmt.Errorf("header of our own: %w", err)
	}
	if err := c.WriteTo(h, b[h.Len:], nil); err != nil {
		return fmt.Errorf("send DHCP reply to %v: %w", h.Dst, err)
	}
	return nil
}
