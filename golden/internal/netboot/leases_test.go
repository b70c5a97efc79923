package netboot

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestStrangersDontTakeThePool: a flood of invented machines, and then those
// that are to be cloned.
func TestStrangersDontTakeThePool(t *testing.T) {
	armed := func(b byte) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 1, 0, b} }
	s := offWire(t, DHCPFull, func(c Client) Answer {
		if c.MAC[3] == 1 {
			return BootImage
		}
		return LocalBoot
	})
	now := time.Now()
	say := func(m *dhcpv4.DHCPv4) *out {
		o, err := s.handleDHCP(m.ToBytes(), dhcpServerPort, netip.AddrPort{}, now)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	flood := func(n int, confirm bool) (given int) {
		for i := range n {
			mac := dhcpv4.WithHwAddr(net.HardwareAddr{2, 9, 9, byte(i >> 16), byte(i >> 8), byte(i)})
			o := say(pxe(t, dhcpv4.MessageTypeDiscover, mac))
			if o == nil {
				continue
			}
			given++
			if confirm {
				say(pxe(t, dhcpv4.MessageTypeRequest, mac, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(o.msg.YourIPAddr))))
			}
		}
		return given
	}
	most := 127 - 127/4
	if n := flood(5000, false); n != most {
		t.Errorf("%d strangers were offered an address, want %d", n, most)
	}
	for i := range byte(100) { // more than strangers may not have: offers to them yield
		mac := dhcpv4.WithHwAddr(armed(i))
		o := say(pxe(t, dhcpv4.MessageTypeDiscover, mac))
		if o == nil {
			t.Fatalf("armed machine %d of 100 got no address", i+1)
		}
		ack := say(pxe(t, dhcpv4.MessageTypeRequest, mac, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(o.msg.YourIPAddr))))
		if ack == nil || ack.msg.MessageType() != dhcpv4.MessageTypeAck {
			t.Fatalf("armed machine %d of 100: %+v", i+1, ack)
		}
	}
	now = now.Add(strangerTime + reapEvery)
	if n := flood(200, false); n != 27 {
		t.Errorf("%d strangers were offered one of the 27 that are left", n)
	}
	s2 := s.plan.subnets[0].strangers
	now = now.Add(strangerTime + reapEvery)
	s.leases.offer(asker{mac: [6]byte(armed(1)), net: s.plan.subnets[0]}, netip.Addr{}, now)
	if s2 != 27 || s.plan.subnets[0].strangers != 0 {
		t.Errorf("%d strangers counted, then %d; want 27, then none", s2, s.plan.subnets[0].strangers)
	}
	// The same with leases that strangers really took.
	s = offWire(t, DHCPFull, func(c Client) Answer {
		if c.MAC[3] == 1 {
			return BootImage
		}
		return LocalBoot
	})
	if n := flood(300, true); n != most {
		t.Errorf("%d strangers got an address, want %d", n, most)
	}
	for i := range byte(127 / 4) {
		if o := say(pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(armed(i)))); o == nil {
			t.Fatalf("armed machine %d of %d got no address", i+1, 127/4)
		}
	}
	if n := s.plan.subnets[0].strangers; n != most {
		t.Errorf("%d strangers counted, want %d", n, most)
	}
}

// TestDecliningAll: who declines whatever he is offered leaves three quarters
// of the pool to the others.
func TestDecliningAll(t *testing.T) {
	s := offWire(t, DHCPFull, nil2local)
	now := time.Now()
	for i := range 1000 {
		mac := dhcpv4.WithHwAddr(net.HardwareAddr{2, 9, 9, 0, byte(i >> 8), byte(i)})
		o, err := s.handleDHCP(pxe(t, dhcpv4.MessageTypeDiscover, mac).ToBytes(), dhcpServerPort, netip.AddrPort{}, now)
		if err != nil || o == nil {
			t.Fatalf("machine %d: %v %v", i, o, err)
		}
		ask(t, s, pxe(t, dhcpv4.MessageTypeDecline, mac, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(o.msg.YourIPAddr))))
	}
	if n := len(s.leases.rested); n > 32 {
		t.Errorf("%d addresses of 127 rest", n)
	}
}

func TestKnownStaysKnown(t *testing.T) {
	s := offWire(t, DHCPFull, func(Client) Answer { return BootImage })
	o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover))
	req := dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(o.msg.YourIPAddr))
	ask(t, s, pxe(t, dhcpv4.MessageTypeRequest, req))
	plain, err := dhcpv4.New(dhcpv4.WithHwAddr(hw(1)), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), req) // its installed system
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s, plain); got == nil || got.msg.MessageType() != dhcpv4.MessageTypeAck || s.plan.subnets[0].strangers != 0 {
		t.Errorf("%+v, %d strangers", got, s.plan.subnets[0].strangers)
	}
}

func TestLeaseFileOfAnythingIsTaken(t *testing.T) {
	good := `{"mac":"52:54:00:77:00:01","ip":"10.77.0.130","until":"2999-11-21T00:00:00Z"}` + "\n"
	path := filepath.Join(t.TempDir(), "leases")
	for name, b := range map[string][]byte{
		"zeros after a power cut": append([]byte(good), make([]byte, 8192)...),
		"a long line":             append(bytes.Repeat([]byte("x"), 5000), append([]byte{'\n'}, good...)...),
		"garbage":                 append([]byte("\xff\xfe{]\n\n\n"), good...),
		"another took it later":   append([]byte(strings.Replace(good, "00:01", "00:02", 1)), good...),
		"no end of the last line": []byte(good[:len(good)-1]),
	} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		s := offWire(t, DHCPFull, nil2local)
		if err := s.leases.load(path, time.Now(), slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if mac, ok := s.leases.holder(addr("10.77.0.130")); !ok || mac != [6]byte(hw(1)) || len(s.leases.byMAC) != 1 || s.plan.subnets[0].strangers != 1 {
			t.Errorf("%s: %v %v, %d leases, %d strangers", name, mac, ok, len(s.leases.byMAC), s.plan.subnets[0].strangers)
		}
		if err := s.leases.close(); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != good {
			t.Errorf("%s: written anew as %q, %v", name, got, err)
		}
	}
}

// TestLeaseFileIsMadeAnewMeanwhile: nothing that is given while the journal
// is being shortened is missing from it.
func TestLeaseFileIsMadeAnewMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases")
	log := slog.New(slog.DiscardHandler)
	s := offWire(t, DHCPFull, nil2local)
	if err := s.leases.load(path, time.Now(), log); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := s.leases.file.rewrite(s.leases); err != nil {
				ended <- err
				return
			}
		}
	}()
	for i := range 90 {
		a := asker{mac: [6]byte(hw(byte(i))), net: s.plan.subnets[0]}
		for range 20 {
			if !s.leases.confirm(a, numberIP(ipNumber(addr("10.77.0.130"))+uint32(i)), time.Now()) {
				t.Fatal("refused")
			}
			if err := s.leases.flush(); err != nil {
				t.Fatal(err)
			}
		}
		f, err := os.Open(path) // what a restart would find now
		if err != nil {
			t.Fatal(err)
		}
		ls, err := readLeases(f, log)
		_ = f.Close()
		if err != nil || len(ls) == 0 || !hasLease(ls, a.mac) {
			t.Fatalf("machine %d isn't in the file: %v", i, err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.leases.close(); err != nil {
		t.Error(err)
	}
}

func hasLease(ls []lease, mac [6]byte) bool {
	for _, l := range ls {
		if l.mac == mac {
			return true
		}
	}
	return false
}
