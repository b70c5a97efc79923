package vmlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// routerAdvertiser says at short intervals, and whenever somebody asks, that
// there is an IPv6 router. QEMU's network boot ROM (iPXE of 2019) solicits one
// before its first TFTP request and waits 13 s when nobody answers.
type routerAdvertiser struct {
	conn *ipv6.PacketConn
	quit chan struct{}
	done chan struct{}
}

// ICMPv6 types (RFC 4861 §4.1, §4.2).
const (
	routerSolicitation  = 133
	routerAdvertisement = 134
)

func startRouterAdvertiser(namespace, ifName string, prefix netip.Prefix) (*routerAdvertiser, error) {
	conn, ifi, err := listenICMPv6(namespace, ifName)
	if err != nil {
		return nil, err
	}
	r := &routerAdvertiser{conn: conn, quit: make(chan struct{}), done: make(chan struct{})}
	go r.serve(advertisement(prefix, ifi.HardwareAddr), ifi.Index) // until stop
	return r, nil
}

// listenICMPv6 opens a raw socket inside the namespace. A socket stays in the
// namespace it was made in, whichever thread uses it later; only the thread
// that entered the namespace must be thrown away.
func listenICMPv6(namespace, ifName string) (*ipv6.PacketConn, *net.Interface, error) {
	type result struct {
		conn *ipv6.PacketConn
		ifi  *net.Interface
		err  error
	}
	ch := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends here
		var r result
		r.conn, r.ifi, r.err = listenHere(namespace, ifName)
		ch <- r
	}()
	r := <-ch
	return r.conn, r.ifi, r.err
}

func listenHere(namespace, ifName string) (*ipv6.PacketConn, *net.Interface, error) {
	ns, err := os.Open("/run/netns/" + namespace)
	if err != nil {
		return nil, nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, nil, fmt.Errorf("enter namespace %s: %w", namespace, err)
	}
	ifi, err := net.InterfaceByName(ifName)
	if err != nil {
		return nil, nil, err
	}
	pc, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, nil, err
	}
	conn := ipv6.NewPacketConn(pc)
	// ff02::2 is "all routers" (RFC 4291 §2.7.1); a solicitation goes there.
	if err := conn.JoinGroup(ifi, &net.IPAddr{IP: net.ParseIP("ff02::2")}); err != nil {
		pc.Close()
		return nil, nil, err
	}
	return conn, ifi, nil
}

// serve answers solicitations at once and advertises every second besides.
func (r *routerAdvertiser) serve(message []byte, ifIndex int) {
	defer close(r.done)
	to := &net.IPAddr{IP: net.ParseIP("ff02::1")} // "all nodes"
	// Hop limit 255: anything else is dropped (RFC 4861 §4.2).
	cm := &ipv6.ControlMessage{HopLimit: 255, IfIndex: ifIndex}
	buf := make([]byte, 1500)
	for {
		select {
		case <-r.quit:
			return
		default:
		}
		// Fails while no machine is plugged in; the next round tries again.
		_, _ = r.conn.WriteTo(message, cm, to)
		_ = r.conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, _, _, err := r.conn.ReadFrom(buf)
			if err != nil || (n > 0 && buf[0] == routerSolicitation) {
				break
			}
		}
	}
}

func (r *routerAdvertiser) stop() {
	close(r.quit)
	r.conn.Close()
	<-r.done
}

// advertisement is RFC 4861 §4.2 with a prefix option (§4.6.2) and the source
// link-layer address (§4.6.1). The kernel fills in the checksum.
func advertisement(prefix netip.Prefix, mac net.HardwareAddr) []byte {
	b := []byte{
		routerAdvertisement, 0, 0, 0, // type, code, checksum
		64, 0, // hop limit for the hosts; no flags: addresses aren't managed
		0x07, 0x08, // router lifetime 1800 s
		0, 0, 0, 0, 0, 0, 0, 0, // reachable time, retransmit timer: unspecified
		3, 4, byte(prefix.Bits()), 0xc0, // prefix option, 4*8 bytes, on-link and autonomous
		0, 0, 0x0e, 0x10, // valid for 3600 s
		0, 0, 0x0e, 0x10, // preferred for 3600 s
		0, 0, 0, 0,
	}
	addr := prefix.Masked().Addr().As16()
	b = append(b, addr[:]...)
	b = append(b, 1, 1) // source link-layer address, 1*8 bytes
	return append(b, mac...)
}
