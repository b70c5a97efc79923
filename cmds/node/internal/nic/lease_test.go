package nic

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

var mac1 = net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 1}

func ack(t testing.TB, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	a, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithHwAddr(mac1),
		dhcpv4.WithYourIP(net.IP{10, 77, 0, 20}), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithLeaseTime(3600),
	}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLeaseOf(t *testing.T) {
	now := time.Unix(1000, 0)
	a := ack(t,
		dhcpv4.WithRouter(net.IP{10, 77, 0, 1}, net.IP{10, 77, 0, 2}), dhcpv4.WithDNS(net.IP{10, 77, 0, 3}, net.IP{0, 0, 0, 0}),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{10, 77, 0, 1})), dhcpv4.WithServerIP(net.IP{10, 77, 0, 9}),
		dhcpv4.WithOption(dhcpv4.OptHostName("node1\x1b[2J")), dhcpv4.WithOption(dhcpv4.OptDomainName("lab\nnameserver 6.6.6.6")))
	got, err := leaseOf("eth0", mac1, a, now)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	want := &Lease{
		Interface: "eth0", MAC: mac1.String(), Addr: netip.MustParsePrefix("10.77.0.20/24"),
		Router: addr("10.77.0.1"), DNS: []netip.Addr{addr("10.77.0.3")}, Domain: "labnameserver6.6.6.6",
		ServerID: addr("10.77.0.1"), NextServer: addr("10.77.0.9"), Hostname: "node1[2J", Duration: time.Hour, Acquired: now, Raw: a.ToBytes(),
	}
	same := cmp.Comparer(func(x, y netip.Addr) bool { return x == y })
	samePrefix := cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })
	if d := cmp.Diff(want, got, same, samePrefix); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got.renewAt() != now.Add(30*time.Minute) || got.rebindAt() != now.Add(3150*time.Second) {
		t.Errorf("T1 %v, T2 %v", got.renewAt(), got.rebindAt())
	}
}

func TestLeaseOfOddAnswers(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		name string
		mod  dhcpv4.Modifier
		want string // in the error; or the prefix
	}{
		{"no address", dhcpv4.WithYourIP(net.IPv4zero), "no address"},
		{"bad mask", dhcpv4.WithGeneric(dhcpv4.OptionSubnetMask, []byte{255, 0, 255, 0}), "impossible netmask"},
		{"no mask", dhcpv4.WithoutOption(dhcpv4.OptionSubnetMask), "10.77.0.20/8"},
	} {
		l, err := leaseOf("eth0", mac1, ack(t, tt.mod), now)
		switch {
		case err != nil && !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s: %v", tt.name, err)
		case err == nil && l.Addr.String() != tt.want:
			t.Errorf("%s: got %s, want %s", tt.name, l.Addr, tt.want)
		}
	}
	l, err := leaseOf("eth0", mac1, ack(t, dhcpv4.WithOption(dhcpv4.OptTFTPServerName("10.77.0.5")),
		dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(20*time.Second))), now)
	if err != nil {
		t.Fatal(err)
	}
	if l.NextServer.String() != "10.77.0.5" || l.renewAt() != now.Add(20*time.Second) {
		t.Errorf("boot server %v, T1 %v", l.NextServer, l.renewAt())
	}
}

func TestRetryAt(t *testing.T) {
	start := time.Unix(100000, 0)
	l := &Lease{Duration: 80 * time.Minute, Acquired: start} // T1 40, T2 70
	for _, tt := range []struct{ now, want time.Duration }{
		{40 * time.Minute, 55 * time.Minute},
		{69 * time.Minute, 70 * time.Minute},
		{72 * time.Minute, 76 * time.Minute},
		{100 * time.Minute, 101 * time.Minute},
	} {
		if got := l.retryAt(start.Add(tt.now)); got != start.Add(tt.want) {
			t.Errorf("at %v: next at %v, want %v", tt.now, got.Sub(start), tt.want)
		}
	}
}

func TestChoose(t *testing.T) {
	mac2 := net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 2}
	all := []link{{index: 2, name: "eth0", mac: mac1}, {index: 3, name: "eth1", mac: mac2}}
	for _, tt := range []struct {
		name   string
		all    []link
		bootIF net.HardwareAddr
		want   []string
		err    string
	}{
		{"", all, nil, []string{"eth0", "eth1"}, ""},
		{"auto", all, mac2, []string{"eth1"}, ""},
		{"eth0", all, mac2, []string{"eth1"}, ""}, // what booted, whatever it's called here
		{"eth0", all, net.HardwareAddr{2, 0, 0, 0, 0, 9}, []string{"eth0"}, ""},
		{"eth7", all, nil, nil, "eth7 (there are: eth0 52:54:00:77:00:01, eth1 52:54:00:77:00:02)"},
		{"auto", nil, nil, nil, "no Ethernet interface at all"},
	} {
		got, err := choose(tt.all, tt.bootIF, tt.name)
		var names []string
		for _, l := range got {
			names = append(names, l.name)
		}
		if d := cmp.Diff(tt.want, names); d != "" {
			t.Errorf("%+v: -want +got:\n%s", tt, d)
		}
		if tt.err != "" && (!errors.Is(err, ErrNoInterface) || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("got error %v, want %q", err, tt.err)
		}
	}
}

func FuzzLeaseOf(f *testing.F) {
	f.Add(ack(f, dhcpv4.WithRouter(net.IP{10, 0, 0, 1}), dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(time.Second))).ToBytes())
	f.Add([]byte{2, 1, 6, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		l, err := leaseOf("eth0", mac1, a, time.Unix(1000, 0))
		if err != nil {
			return
		}
		if !l.Addr.IsValid() || l.Addr.Bits() < 1 {
			t.Errorf("address %v", l.Addr)
		}
		if l.renewAt().After(l.expires()) || l.rebindAt().After(l.expires()) {
			t.Errorf("T1 %v, T2 %v after the end %v", l.renewAt(), l.rebindAt(), l.expires())
		}
		for _, line := range l.Lines() {
			if strings.ContainsAny(line, "\n\x1b") {
				t.Errorf("control character in %q", line)
			}
		}
	})
}
