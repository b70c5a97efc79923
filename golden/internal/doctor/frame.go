package doctor

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// mac is a link address that can be a key.
type mac = [6]byte

// frame is an Ethernet frame that was seen: UDP, TCP or ICMP over IPv4.
type frame struct {
	src, dst mac
	proto    byte // of IPv4
	from, to netip.AddrPort
	flags    byte   // TCP's
	seq      uint32 // TCP's
	icmp     [2]byte
	payload  []byte // of an ICMP error: the IPv4 packet that it is about
}

const (
	etherLen  = 14
	ipLen     = 20 // RFC 791 3.1, without options
	udpLen    = 8
	tcpLen    = 20
	tcpSYN    = 0x02
	tcpRST    = 0x04
	tcpACK    = 0x10
	icmpUnrch = 3 // RFC 792
)

// parseFrame takes a frame apart. What isn't one of ours, is cut off, or a
// later fragment, gives false. Checksums aren't looked at: frames of this
// machine have none yet.
func parseFrame(b []byte) (frame, bool) {
	var f frame
	if len(b) < etherLen {
		return f, false
	}
	f.dst, f.src = mac(b[:6]), mac(b[6:12])
	kind := binary.BigEndian.Uint16(b[12:])
	b = b[etherLen:]
	if kind == unix.ETH_P_8021Q && len(b) >= 4 {
		kind = binary.BigEndian.Uint16(b[2:])
		b = b[4:]
	}
	if kind != unix.ETH_P_IP {
		return f, false
	}
	return f, f.ip(b)
}

// ip reads an IPv4 packet; of a long one the end may be cut off.
func (f *frame) ip(b []byte) bool {
	if len(b) < ipLen || b[0]>>4 != 4 {
		return false
	}
	head := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 || total > len(b) { // 0: larger than 64 KB, to be cut by the card
		total = len(b)
	}
	if head < ipLen || total < head || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return false
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	f.proto = b[9]
	b = b[head:total]
	if len(b) < udpLen {
		return false
	}
	from, to := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	switch f.proto {
	case unix.IPPROTO_UDP:
		f.payload = b[udpLen:]
	case unix.IPPROTO_TCP:
		off := 0
		if len(b) >= tcpLen {
			off = int(b[12]>>4) * 4
		}
		if off < tcpLen || off > len(b) {
			return false
		}
		f.seq, f.flags, f.payload = binary.BigEndian.Uint32(b[4:]), b[13], b[off:]
	case unix.IPPROTO_ICMP:
		f.icmp = [2]byte{b[0], b[1]}
		f.payload = b[8:]
		from, to = 0, 0
	default:
		return false
	}
	f.from, f.to = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return true
}

// about is the packet that an ICMP error is about.
func (f *frame) about() (frame, bool) {
	var inner frame
	if f.proto != unix.IPPROTO_ICMP || f.icmp[0] != icmpUnrch {
		return inner, false
	}
	b := f.payload
	if len(b) < ipLen {
		return inner, false
	}
	head := int(b[0]&15) * 4
	if head < ipLen || len(b) < head+4 { // RFC 792: eight bytes of it are there
		return inner, false
	}
	inner.proto = b[9]
	inner.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), binary.BigEndian.Uint16(b[head:]))
	inner.to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(b[head+2:]))
	return inner, true
}

// udpFrame builds a frame with one UDP datagram.
func udpFrame(src, dst mac, from, to netip.AddrPort, payload []byte) []byte {
	u := make([]byte, udpLen, udpLen+len(payload))
	binary.BigEndian.PutUint16(u, from.Port())
	binary.BigEndian.PutUint16(u[2:], to.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(udpLen+len(payload)))
	u = append(u, payload...)
	sum := netboot.Checksum(netboot.PseudoSum(unix.IPPROTO_UDP, from.Addr(), to.Addr(), len(u)), u)
	if sum == 0 {
		sum = 0xffff // RFC 768: zero means none
	}
	binary.BigEndian.PutUint16(u[6:], sum)
	return ipFrame(src, dst, from.Addr(), to.Addr(), unix.IPPROTO_UDP, u)
}

// tcpFrame builds a frame with a TCP segment without data.
func tcpFrame(src, dst mac, from, to netip.AddrPort, flags byte, seq, ack uint32) []byte {
	t := make([]byte, tcpLen)
	binary.BigEndian.PutUint16(t, from.Port())
	binary.BigEndian.PutUint16(t[2:], to.Port())
	binary.BigEndian.PutUint32(t[4:], seq)
	binary.BigEndian.PutUint32(t[8:], ack)
	t[12], t[13] = tcpLen/4<<4, flags
	binary.BigEndian.PutUint16(t[14:], 1<<13) // window
	binary.BigEndian.PutUint16(t[16:], netboot.Checksum(netboot.PseudoSum(unix.IPPROTO_TCP, from.Addr(), to.Addr(), len(t)), t))
	return ipFrame(src, dst, from.Addr(), to.Addr(), unix.IPPROTO_TCP, t)
}

func ipFrame(src, dst mac, from, to netip.Addr, proto byte, body []byte) []byte {
	b := make([]byte, etherLen+ipLen, etherLen+ipLen+len(body))
	copy(b, dst[:])
	copy(b[6:], src[:])
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	h := b[etherLen:]
	h[0] = 0x45
	binary.BigEndian.PutUint16(h[2:], uint16(ipLen+len(body)))
	h[8], h[9] = 64, proto // 64: time to live (RFC 1700)
	a, z := from.As4(), to.As4()
	copy(h[12:], a[:])
	copy(h[16:], z[:])
	binary.BigEndian.PutUint16(h[10:], netboot.Checksum(0, h))
	return append(b, body...)
}

// arpRequest asks who has an address, and so tells where the asker is
// (RFC 826).
func arpRequest(src mac, from, who netip.Addr) []byte {
	all := mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b := append(append([]byte{}, all[:]...), src[:]...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_ARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	a, z := from.As4(), who.As4()
	b = append(append(b, src[:]...), a[:]...)
	return append(append(b, make([]byte, 6)...), z[:]...)
}
