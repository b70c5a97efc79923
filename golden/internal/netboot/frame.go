package netboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A machine that asks for an address has none yet, so the kernel can't find
// it by ARP, and a proxy must not take port 67 away from a server on the
// same host. Both are solved by a packet socket: the IPv4 and UDP headers
// are ours, the link header is the kernel's.

const (
	ipHeaderLen  = 20 // RFC 791 3.1 without options
	udpHeaderLen = 8  // RFC 768
	maxDatagram  = 1472
)

// openPacket opens a packet socket that receives UDP datagrams to port only;
// to port 0, nothing.
func openPacket(l *link, port uint16) (*packet.Conn, error) {
	filter := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1}, // protocol
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 6, Size: 2}, // flags and fragment offset
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 4},
		bpf.LoadMemShift{Off: 0},          // X = header length
		bpf.LoadIndirect{Off: 2, Size: 2}, // UDP destination port
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(port), SkipTrue: 1},
		bpf.RetConstant{Val: 65535},
		bpf.RetConstant{Val: 0},
	}
	if port == 0 {
		filter = []bpf.Instruction{bpf.RetConstant{Val: 0}}
	}
	prog, err := bpf.Assemble(filter)
	if err != nil {
		return nil, fmt.Errorf("assemble packet filter: %w", err)
	}
	ifi, err := net.InterfaceByName(l.name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", l.name, err)
	}
	l.index.Store(int32(ifi.Index))
	c, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, &packet.Config{Filter: prog})
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", l.name, err)
	}
	return c, nil
}

// datagram is one UDP datagram with its addresses.
type datagram struct {
	src, dst netip.AddrPort
	payload  []byte
}

// parseDatagram reads an IPv4 packet that holds a whole UDP datagram. The
// checksums aren't looked at: packets of virtual interfaces arrive without.
func parseDatagram(b []byte) (datagram, error) {
	if len(b) < ipHeaderLen || b[0]>>4 != 4 {
		return datagram{}, errors.New("no IPv4 header")
	}
	hl := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if hl < ipHeaderLen || total > len(b) || total < hl+udpHeaderLen || b[9] != unix.IPPROTO_UDP {
		return datagram{}, fmt.Errorf("IPv4 header: lengths %d and %d in %d bytes", hl, total, len(b))
	}
	if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 { // more fragments, or not the first
		return datagram{}, errors.New("fragment")
	}
	u := b[hl:total]
	ul := int(binary.BigEndian.Uint16(u[4:]))
	if ul < udpHeaderLen || ul > len(u) {
		return datagram{}, fmt.Errorf("UDP length %d in %d bytes", ul, len(u))
	}
	return datagram{
		src:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), binary.BigEndian.Uint16(u)),
		dst:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(u[2:])),
		payload: u[udpHeaderLen:ul],
	}, nil
}

// bytes builds the packet, checksums included.
func (d datagram) bytes() []byte {
	n := ipHeaderLen + udpHeaderLen + len(d.payload)
	b := make([]byte, n)
	b[0] = 0x45
	b[1] = 0x10 // low delay, as other DHCP servers send
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	b[8] = 64 // time to live
	b[9] = unix.IPPROTO_UDP
	src, dst := d.src.Addr().As4(), d.dst.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], Checksum(0, b[:ipHeaderLen]))
	u := b[ipHeaderLen:]
	binary.BigEndian.PutUint16(u, d.src.Port())
	binary.BigEndian.PutUint16(u[2:], d.dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[udpHeaderLen:], d.payload)
	sum := Checksum(PseudoSum(unix.IPPROTO_UDP, d.src.Addr(), d.dst.Addr(), len(u)), u)
	if sum == 0 {
		sum = 0xffff // RFC 768: zero means none
	}
	binary.BigEndian.PutUint16(u[6:], sum)
	return b
}

// PseudoSum is what a checksum begins with that covers n bytes of a protocol
// over IPv4 (RFC 768, RFC 793 3.1).
func PseudoSum(proto byte, src, dst netip.Addr, n int) uint32 {
	s := uint32(proto) + uint32(n)
	for _, ip := range []netip.Addr{src, dst} {
		a := ip.As4()
		s += uint32(binary.BigEndian.Uint16(a[:2])) + uint32(binary.BigEndian.Uint16(a[2:]))
	}
	return s
}

// Checksum is the ones' complement sum of RFC 1071.
func Checksum(s uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

func broadcastMAC() net.HardwareAddr {
	return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
}
