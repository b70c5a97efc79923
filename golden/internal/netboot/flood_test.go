package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
)

// wireClient is many machines on one cable: it sends and hears DHCP without
// an address, for any MAC.
type wireClient struct {
	c *packet.Conn
}

// onWire runs f with eth0 of a namespace.
func (l *lab) onWire(ns string, f func(*wireClient) error) {
	l.t.Helper()
	if err := onWire(ns, f); err != nil {
		l.t.Fatal(err)
	}
}

func onWire(ns string, f func(*wireClient) error) error {
	return within(ns, func() error {
		c, err := openPacket(&link{name: "eth0"}, dhcpClientPort)
		if err != nil {
			return err
		}
		if err := enlarge(c, receiveBuffer); err != nil {
			return err
		}
		return errors.Join(f(&wireClient{c: c}), c.Close())
	})
}

func (w *wireClient) send(b []byte) error {
	g := datagram{src: netip.MustParseAddrPort("0.0.0.0:68"), dst: netip.MustParseAddrPort("255.255.255.255:67"), payload: b}
	_, err := w.c.WriteTo(g.bytes(), &packet.Addr{HardwareAddr: broadcastMAC()})
	return err
}

// hear calls f with each answer until f says that it is enough, or the time
// is up.
func (w *wireClient) hear(until time.Time, f func(*dhcpv4.DHCPv4) bool) error {
	if err := w.c.SetReadDeadline(until); err != nil {
		return err
	}
	for buf := make([]byte, 65536); ; {
		n, _, err := w.c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		g, err := parseDatagram(buf[:n])
		if err != nil {
			continue
		}
		if m, err := dhcpv4.FromBytes(g.payload); err == nil && f(m) {
			return nil
		}
	}
}

// discover makes what a ROM sends, cheaply for any number of machines.
func discoverer(t testing.TB, pxeClass bool) func(mac [6]byte) []byte {
	mods := []dhcpv4.Modifier{}
	if !pxeClass {
		mods = append(mods, dhcpv4.WithoutOption(dhcpv4.OptionClassIdentifier))
	}
	b := pxe(t, dhcpv4.MessageTypeDiscover, mods...).ToBytes()
	return func(mac [6]byte) []byte {
		c := bytes.Clone(b)
		copy(c[4:8], mac[2:]) // transaction
		copy(c[28:34], mac[:])
		return c
	}
}

func residentKB(t *testing.T, pid int) (kb int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// tellHeap says at SIGUSR1 how many kB are in use, garbage left out.
func tellHeap(ctx context.Context) {
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGUSR1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask:
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("HEAP %d kB\n", m.HeapAlloc>>10)
	}
}

// heapKB asks the server for the nth time what memory it uses.
func (p *process) heapKB(n int) (kb int) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		p.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if said := strings.Split(p.output(), "HEAP "); len(said) > n {
			if _, err := fmt.Sscanf(said[n], "%d kB", &kb); err == nil {
				return kb
			}
		}
		if time.Now().After(end) {
			p.t.Fatal("the server doesn't say what memory it uses")
		}
	}
}

// TestFloodOfMACs: memory stays flat, and the machines of the plan are served
// meanwhile and afterwards.
func TestFloodOfMACs(t *testing.T) {
	needs(t, "busybox")
	for _, mode := range []string{DHCPFull, DHCPProxy} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			bad, good := l.host("52:54:00:77:fe:02", ""), l.host(macA, "")
			srv := l.ready(serveSpec{DHCP: mode, Quiet: true, Known: []string{macA}, LeaseFile: filepath.Join(l.tmp, "leases")})
			pid := srv.cmd.Process.Pid
			discover := discoverer(t, true)
			if err := flood(bad, 20_000, discover); err != nil { // what it takes at most, it has after this
				t.Fatal(err)
			}
			before, rss := srv.heapKB(1), residentKB(t, pid)
			done := make(chan error, 1)
			go func() { done <- flood(bad, 100_000, discover) }()
			for i := range 3 {
				l.known(good, mode, fmt.Sprintf("during the flood, %d", i+1))
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			after := srv.heapKB(2)
			t.Logf("%s: %d kB in use before 100,000 invented machines, %d kB after; resident %d kB, then %d kB", mode, before, after, rss, residentKB(t, pid))
			// A table of them all would have some 50 MB.
			if after-before > 12<<10 {
				t.Errorf("%s: memory in use grew from %d to %d kB", mode, before, after)
			}
			l.known(good, mode, "after the flood")
		})
	}
}

// flood sends so many requests of random machines, at some 20,000 a second.
func flood(ns string, n int, discover func([6]byte) []byte) error {
	return onWire(ns, func(w *wireClient) error {
		for i := range n {
			r := rand.Uint64()
			mac := [6]byte{0x02, byte(r), byte(r >> 8), byte(r >> 16), byte(r >> 24), byte(r >> 32)}
			if err := w.send(discover(mac)); err != nil {
				return err
			}
			if i%40 == 39 {
				time.Sleep(2 * time.Millisecond)
			}
		}
		return nil
	})
}

// known says that macA is answered, as firmware asks: again and again.
func (l *lab) known(ns, mode, when string) {
	l.t.Helper()
	mac, _ := net.ParseMAC(macA)
	discover := discoverer(l.t, true)([6]byte(mac))
	got := false
	l.onWire(ns, func(w *wireClient) error {
		for try := 0; try < 20 && !got; try++ {
			if err := w.send(discover); err != nil {
				return err
			}
			err := w.hear(time.Now().Add(time.Second), func(m *dhcpv4.DHCPv4) bool {
				got = m.ClientHWAddr.String() == macA && m.BootFileName == "pxelinux.0" && v4(m.YourIPAddr).IsValid() == (mode == DHCPFull)
				return got
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if !got {
		l.t.Errorf("%s: the machine of the plan is not served %s", mode, when)
	}
}

// TestThousandMachinesAtOnce: the power comes back. How long it takes is
// logged; the limit is only that it ends.
func TestThousandMachinesAtOnce(t *testing.T) {
	l := newLab(t)
	room := l.host("52:54:00:77:fe:03", "")
	l.ip(l.srv, "addr add 10.64.0.1/16 brd + dev br0")
	l.ready(serveSpec{DHCP: DHCPFull, Quiet: true, Addr: prefix("10.64.0.1/16"), LeaseFile: filepath.Join(l.tmp, "leases")})
	const machines = 1000
	acked := map[string]netip.Addr{}
	owner := map[netip.Addr]string{}
	start := time.Now()
	l.onWire(room, func(w *wireClient) error {
		discover := discoverer(t, true)
		for end := start.Add(time.Minute); len(acked) < machines && time.Now().Before(end); {
			for i := range machines {
				mac := [6]byte{0x52, 0x54, 0, 7, byte(i >> 8), byte(i)}
				if acked[macText(mac)].IsValid() {
					continue
				}
				if err := w.send(discover(mac)); err != nil {
					return err
				}
			}
			err := w.hear(time.Now().Add(2*time.Second), func(m *dhcpv4.DHCPv4) bool { // firmware asks again after 2 to 4 s
				who, ip := m.ClientHWAddr.String(), v4(m.YourIPAddr)
				switch m.MessageType() {
				case dhcpv4.MessageTypeOffer:
					_ = w.send(pxe(t, dhcpv4.MessageTypeRequest, dhcpv4.WithHwAddr(m.ClientHWAddr), dhcpv4.WithTransactionID(m.TransactionID),
						dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(m.YourIPAddr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 64, 0, 1)))).ToBytes())
				case dhcpv4.MessageTypeAck:
					if o, ok := owner[ip]; ok && o != who {
						t.Errorf("%v was given to %s and %s", ip, o, who)
					}
					acked[who], owner[ip] = ip, who
				}
				return len(acked) == machines
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	t.Logf("%d machines have an address after %v", len(acked), time.Since(start).Round(time.Millisecond))
	if len(acked) != machines {
		t.Errorf("%d of %d machines got an address", len(acked), machines)
	}
}

// dhcpd starts ISC's server, which is not a bit like dnsmasq.
func (l *lab) dhcpd(ns, ifname string) *process {
	l.t.Helper()
	conf := l.write("dhcpd.conf", "authoritative; default-lease-time 600; ping-check false;\nsubnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.50 10.77.0.59; }\n")
	p := l.start(ns, nil, "dhcpd", "-4", "-f", "-d", "--no-pid", "-user", "root", "-group", "root", "-cf", conf, "-lf", l.write("dhcpd.leases", ""), ifname)
	p.mustSee("Server starting service", 15*time.Second)
	return p
}

// TestStrangersBesideOthers: ten thousand requests of machines that are in no
// plan, beside each foreign server, on another host and on ours: not one is
// answered by us.
func TestStrangersBesideOthers(t *testing.T) {
	for _, program := range []string{"dnsmasq", "dhcpd"} {
		for _, where := range []string{"another host", "the same host"} {
			t.Run(program+" on "+where, func(t *testing.T) {
				needs(t, program)
				l := newLab(t)
				c := l.host("52:54:00:77:fe:04", "10.77.0.10/24")
				ns, ifname := l.srv, "br0"
				if where == "another host" {
					ns, ifname = l.host(macB, "10.77.0.2/24"), "eth0"
				}
				if program == "dnsmasq" {
					l.dnsmasq(ns, ifname, "--no-ping")
				} else {
					l.dhcpd(ns, ifname)
				}
				l.ready(serveSpec{DHCP: DHCPProxy, Quiet: true, Known: []string{macA}})
				l.strangers(c, 10_000)
			})
		}
	}
}

// strangers sends requests of all kinds and looks at each answer. What is
// ours has a boot file or the class, which none of the others sends.
func (l *lab) strangers(ns string, n int) {
	l.t.Helper()
	rom, plain := discoverer(l.t, true), discoverer(l.t, false)
	var mu sync.Mutex
	ours, others, control := 0, 0, false
	count := func(m *dhcpv4.DHCPv4) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case m.BootFileName == "" && m.ClassIdentifier() == "":
			others++
		case m.ClientHWAddr.String() == macA:
			control = true
		default:
			ours++
		}
		return control
	}
	l.onWire(ns, func(w *wireClient) error {
		heard := make(chan error, 1)
		go func() { heard <- w.hear(time.Now().Add(100*time.Second), count) }()
		boot, err := net.ListenUDP("udp4", nil) // port 4011, unicast
		if err != nil {
			return err
		}
		defer func() { _ = boot.Close() }()
		for i := range n {
			mac := [6]byte{2, 0, 0x77, 0, byte(i >> 8), byte(i)}
			b := rom(mac)
			switch i % 4 {
			case 1:
				b = plain(mac)
			case 2:
				b[242] = byte(dhcpv4.MessageTypeRequest) // option 53 is the first
			case 3:
				b[242] = byte(dhcpv4.MessageTypeRequest)
				if _, err := boot.WriteToUDP(b, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: proxyPort}); err != nil {
					return err
				}
				continue
			}
			if err := w.send(b); err != nil {
				return err
			}
			if i%10 == 9 {
				time.Sleep(2 * time.Millisecond)
			}
		}
		if err := boot.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			return err
		}
		if n, err := boot.Read(make([]byte, 1500)); err == nil {
			return fmt.Errorf("port 4011 answered a stranger with %d bytes", n)
		}
		// The same listener does hear us, when the machine is in the plan.
		mac, _ := net.ParseMAC(macA)
		for {
			select {
			case err := <-heard:
				return err
			case <-time.After(300 * time.Millisecond):
				if err := w.send(rom([6]byte(mac))); err != nil {
					return err
				}
			}
		}
	})
	if ours != 0 || others == 0 || !control {
		l.t.Errorf("of %d strangers we answered %d, the other server %d; our answer to a machine of the plan was heard: %v", n, ours, others, control)
	}
	l.t.Logf("%d strangers: %d answers of the other server, none of ours", n, others)
}
