package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv4"
)

const (
	dhcpWorkers = 4    // a reply takes tens of microseconds
	dhcpQueue   = 1024 // packets; beyond, they are dropped and clients ask again
	maxRequest  = 1500 // larger requests are nobody's
)

// dhcpJob is one packet that waits for a worker.
type dhcpJob struct {
	b    []byte
	from netip.AddrPort
}

// dhcpSockets are what DHCP needs: raw sends to machines without an address
// and, in proxy mode, receives without taking the port away from a server
// on the same host. udp is nil then.
type dhcpSockets struct {
	raw *packet.Conn
	udp *net.UDPConn
}

func (s *Server) openDHCP() (*dhcpSockets, error) {
	var d dhcpSockets
	var err error
	if s.cfg.DHCP == DHCPFull {
		any4 := netip.AddrFrom4([4]byte{})
		if d.udp, err = s.link.listenUDP(any4, dhcpServerPort); err != nil {
			return nil, err
		}
		if err := ipv4.NewPacketConn(d.udp).SetControlMessage(ipv4.FlagInterface, true); err != nil {
			return nil, errors.Join(fmt.Errorf("ask for interface of DHCP packets: %w", err), d.close())
		}
	}
	if d.raw, err = openPacket(s.link, dhcpServerPort); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return &d, nil
}

func (d *dhcpSockets) close() error {
	var errs []error
	if d.raw != nil {
		errs = append(errs, d.raw.Close())
	}
	if d.udp != nil {
		errs = append(errs, d.udp.Close())
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
		_, err = c.WriteToUDPAddrPort(o.msg.ToBytes(), o.to)
		return err
	})
}

// work reads packets for a fixed number of workers. A full queue drops.
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
		select {
		case jobs <- dhcpJob{b: append([]byte(nil), buf[:n]...), from: from}:
		default:
		}
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
	if err != nil {
		return 0, netip.AddrPort{}, nil
	}
	return copy(b, g.payload), g.src, nil
}

func (s *Server) answer67(d *dhcpSockets, j dhcpJob) error {
	o, err := s.handleDHCP(j.b, dhcpServerPort, j.from, time.Now())
	if o == nil || err != nil {
		return err
	}
	b := o.msg.ToBytes()
	if o.bare && d.udp != nil {
		_, err = d.udp.WriteToUDPAddrPort(b, o.to)
		return err
	}
	if o.bare { // a proxy's answer to a relay: no port 67 of our own
		return s.sendRouted(b, o.to)
	}
	g := datagram{src: netip.AddrPortFrom(s.link.self.Addr(), dhcpServerPort), dst: o.to, payload: b}
	if _, err := d.raw.WriteTo(g.bytes(), &packet.Addr{HardwareAddr: o.hw}); err != nil {
		return fmt.Errorf("send DHCP reply to %v: %w", o.hw, err)
	}
	return nil
}

func (s *Server) sendRouted(b []byte, to netip.AddrPort) error {
	c, err := s.link.listenUDP(s.link.self.Addr(), 0)
	if err != nil {
		return err
	}
	_, err = c.WriteToUDPAddrPort(b, to)
	return errors.Join(err, c.Close())
}
