package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// snapLen is what is kept of a frame: a whole one on the wire, the beginning
// of the 64 KB that this machine hands to its card.
const snapLen = 2048

// lastWords is how long it is listened on at the end, for what is on its way.
const lastWords = 200 * time.Millisecond

// listener hears the served interface and, for machines that are on the wrong
// one, the others.
type listener struct {
	watch *watch
	main  *packet.Conn
	other map[string]*packet.Conn
	last  time.Duration // lastWords
	tell  func()        // the newest steps of the machine of --node, to the log
}

// listen opens the sockets.
func (e *exam) listen() (*listener, error) {
	l := &listener{watch: newWatch(), other: map[string]*packet.Conn{}, last: lastWords}
	l.tell = e.teller(l.watch)
	var err error
	if l.main, err = tap(e.ifi, wireFilter(uint32(e.HTTPPort))); err != nil {
		return nil, err
	}
	if err := l.main.SetPromiscuous(true); err != nil { // a bridge has more to tell than what is for this machine
		e.Log.Debug("not promiscuous", "interface", e.ifi.Name, "err", err)
	}
	for _, i := range e.others() {
		c, err := tap(&i, discoverFilter())
		if err != nil {
			e.Log.Debug("can't listen there", "interface", i.Name, "err", err)
			continue
		}
		l.other[i.Name] = c
	}
	return l, nil
}

// teller makes what logs the steps of one machine as they come.
func (e *exam) teller(w *watch) func() {
	told := 0
	return func() {
		if e.Node == nil {
			return
		}
		m := w.machines[mac(e.Node)]
		for ; m != nil && told < len(m.steps); told++ {
			e.Log.Debug("heard", "machine", e.Node, "what", m.steps[told].What)
		}
	}
}

func tap(i *net.Interface, program []bpf.Instruction) (*packet.Conn, error) {
	prog, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("assemble packet filter: %w", err)
	}
	c, err := packet.Listen(i, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: prog})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", i.Name, err)
	}
	return c, nil
}

// others are the interfaces that carry other networks: not the ports of a
// served bridge, nor what the served one stands on.
func (e *exam) others() []net.Interface {
	links, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	related := map[int]bool{e.ifi.Index: true}
	for range 4 { // VLAN on bond on bridge …
		for _, l := range links {
			a := l.Attrs()
			over := a.ParentIndex
			if a.NetNsID >= 0 { // the index is another namespace's
				over = 0
			}
			if related[a.MasterIndex] || related[over] {
				related[a.Index] = true
			}
			for _, i := range []int{a.MasterIndex, over} {
				if related[a.Index] && i != 0 {
					related[i] = true
				}
			}
		}
	}
	for _, l := range links {
		if l.Attrs().MasterIndex != 0 { // its master hears it too
			related[l.Attrs().Index] = true
		}
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []net.Interface
	for _, i := range all {
		if !related[i.Index] && !served(i) && i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 && len(i.HardwareAddr) == 6 {
			out = append(out, i)
		}
	}
	return out
}

// served tells whether a golden-serve serves this interface too: somebody has
// TFTP's port on its address.
func served(i net.Interface) bool {
	b, err := os.ReadFile("/proc/self/net/udp")
	if err != nil {
		return false
	}
	for _, a := range addresses(i) {
		// proc(5): the address as the processor has it, then the port
		if strings.Contains(string(b), fmt.Sprintf(" %08X:%04X ", binary.NativeEndian.Uint32(a.Addr().AsSlice()), 69)) {
			return true
		}
	}
	return false
}

// run listens for so long, or until ctx ends.
func (l *listener) run(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	hear := func(c *packet.Conn, f func([]byte)) {
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now().Add(l.last)) })
			defer stop()
			defer func() { _ = c.Close() }() // was only read
			b := make([]byte, snapLen)
			take := func(n int) bool {
				mu.Lock()
				defer mu.Unlock()
				f(b[:n])
				return false
			}
			for {
				n, _, err := c.ReadFrom(b)
				if errors.Is(err, unix.ENETDOWN) { // said once; it may come up again
					continue
				}
				if err != nil {
					drain(c, b, take) // what came until the end, however late it is read
					return
				}
				take(n)
			}
		})
	}
	hear(l.main, func(b []byte) {
		l.watch.add(time.Now(), b)
		l.tell()
	})
	for name, c := range l.other {
		hear(c, func(b []byte) { l.watch.astray(name, b) })
	}
	wg.Wait()
}

// astray notes a machine that boots on another interface.
func (w *watch) astray(name string, b []byte) {
	f, ok := parseFrame(b)
	if !ok || f.proto != unix.IPPROTO_UDP || f.to.Port() != 67 {
		return
	}
	d, err := dhcpv4.FromBytes(f.payload)
	if err != nil || len(d.ClientHWAddr) != 6 || d.OpCode != dhcpv4.OpcodeBootRequest {
		return
	}
	m := machine{class: d.ClassIdentifier()}
	if !m.boots() {
		return
	}
	if w.elsewhere[name] == nil {
		w.elsewhere[name] = map[mac]bool{}
	}
	if len(w.elsewhere[name]) < maxMachines {
		w.elsewhere[name][mac(d.ClientHWAddr)] = true
	}
}

// wireFilter lets through: DHCP, PXE and TFTP by their ports; of other UDP
// what begins as TFTP's error, options or first block; HTTP's first lines;
// ICMP "unreachable".
func wireFilter(http uint32) []bpf.Instruction {
	const keep, drop = 38, 39 // where the program ends
	to := func(at, target int) uint8 { return uint8(target - at - 1) }
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2}, // 0
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: to(1, drop)},
		bpf.LoadAbsolute{Off: 20, Size: 2}, // 2: fragment
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: to(3, drop)},
		bpf.LoadMemShift{Off: 14},          // 4: X = header length
		bpf.LoadAbsolute{Off: 23, Size: 1}, // 5: protocol
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP, SkipTrue: to(6, 23)},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMP, SkipTrue: to(7, 36)},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: to(8, drop)},
		bpf.LoadIndirect{Off: 14, Size: 2}, // 9: from
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 67, SkipTrue: to(10, keep)},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 4011, SkipTrue: to(11, keep)},
		bpf.LoadIndirect{Off: 16, Size: 2}, // 12: to
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 67, SkipTrue: to(13, keep)},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 4011, SkipTrue: to(14, keep)},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 69, SkipTrue: to(15, keep)},
		bpf.LoadIndirect{Off: 22, Size: 2}, // 16: opcode of TFTP
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: tftpError, SkipTrue: to(17, keep)},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: tftpOACK, SkipTrue: to(18, keep)},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: tftpData, SkipTrue: to(19, drop)},
		bpf.LoadIndirect{Off: 24, Size: 2}, // 20: block
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 1, SkipTrue: to(21, keep)},
		bpf.Jump{Skip: drop - 23},
		bpf.LoadIndirect{Off: 14, Size: 2}, // 23: TCP
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: http, SkipTrue: to(24, 27)},
		bpf.LoadIndirect{Off: 16, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: http, SkipTrue: to(26, drop)},
		bpf.LoadIndirect{Off: 26, Size: 1}, // 27: data offset, in its upper half, of four bytes
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 2},
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.TAX{},
		bpf.LoadIndirect{Off: 14, Size: 4},                                                  // 32: the first word
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x47455420, SkipTrue: to(33, keep)},            // "GET "
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x48454144, SkipTrue: to(34, keep)},            // "HEAD"
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x48545450, SkipTrue: 2, SkipFalse: drop - 36}, // "HTTP"
		bpf.LoadIndirect{Off: 14, Size: 1},                                                  // 36: ICMP's type
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpUnrch, SkipTrue: to(37, drop)},
		bpf.RetConstant{Val: snapLen},
		bpf.RetConstant{Val: 0},
	}
	return p
}

// discoverFilter lets through what clients say to DHCP servers.
func discoverFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 4},
		bpf.LoadMemShift{Off: 14},
		bpf.LoadIndirect{Off: 16, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 67, SkipTrue: 1},
		bpf.RetConstant{Val: snapLen},
		bpf.RetConstant{Val: 0},
	}
}
