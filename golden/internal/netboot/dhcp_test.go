package netboot

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	fixedMAC = "52:54:00:77:0f:01" // offWire gives it 10.77.0.77
	relayIP  = "10.79.0.2"         // of the network that offWire knows behind a relay
)

func fixedHW() net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0x77, 0x0f, 1} }

func viaRelay(ip string) dhcpv4.Modifier { return dhcpv4.WithGatewayIP(net.ParseIP(ip)) }

func TestRelayedOffer(t *testing.T) {
	for _, mode := range []string{DHCPFull, DHCPProxy} {
		s := offWire(t, mode, nil2local)
		o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, viaRelay(relayIP),
			dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 2, 'p', '7'})))
		if o == nil {
			t.Fatalf("%s: no answer by the relay", mode)
		}
		r, err := dhcpv4.FromBytes(o.wire)
		if err != nil {
			t.Fatal(err)
		}
		if o.to != netip.MustParseAddrPort(relayIP+":67") || !o.bare || !r.GatewayIPAddr.Equal(net.ParseIP(relayIP)) {
			t.Errorf("%s: sent to %v, relay %v", mode, o.to, r.GatewayIPAddr)
		}
		if got := r.Options.Get(dhcpv4.OptionRelayAgentInformation); string(got) != "\x01\x02p7" || !bytes.HasSuffix(bytes.TrimRight(o.wire, "\x00"), []byte("\x52\x04\x01\x02p7\xff")) {
			t.Errorf("%s: option 82 is %x, and the last has to be it", mode, got)
		}
		if r.BootFileName != "pxelinux.0" {
			t.Errorf("%s: boot file %q", mode, r.BootFileName)
		}
		ip := v4(r.YourIPAddr)
		if mode == DHCPProxy && ip.IsValid() {
			t.Errorf("a proxy gave %v", ip)
		}
		if mode == DHCPFull && (!s.plan.subnets[1].has(ip) || fmt.Sprint(r.Router()) != "[10.79.0.254]") {
			t.Errorf("address %v, routers %v: not those of the relay's network", ip, r.Router())
		}
	}
}

// TestRenewalFromBehindARelay: a lease is renewed without the relay, and the
// answer goes by the router, not by a link that the machine isn't on.
func TestRenewalFromBehindARelay(t *testing.T) {
	s := offWire(t, DHCPFull, nil2local)
	offer := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, viaRelay(relayIP)))
	ip := v4(offer.msg.YourIPAddr)
	o := ask(t, s, pxe(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(ip.AsSlice()), dhcpv4.WithBroadcast(false)))
	if o == nil || o.msg.MessageType() != dhcpv4.MessageTypeAck || !o.bare || o.to.Addr() != ip {
		t.Fatalf("%+v", o)
	}
	nak := ask(t, s, pxe(t, dhcpv4.MessageTypeRequest, viaRelay(relayIP), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 77, 0, 200)))))
	if nak == nil || nak.msg.MessageType() != dhcpv4.MessageTypeNak || !nak.msg.IsBroadcast() || nak.to.Addr() != addr(relayIP) {
		t.Errorf("an address of another network: %+v", nak)
	}
}

func TestSpoofedRelay(t *testing.T) {
	for _, mode := range []string{DHCPFull, DHCPProxy} {
		s := offWire(t, mode, nil2local)
		for _, gi := range []string{"10.77.0.1", "8.8.8.8", "255.255.255.255", "10.79.0.255", "10.79.0.0", "10.77.0.255", "127.0.0.1", "224.0.0.1"} {
			if o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, viaRelay(gi))); o != nil {
				t.Errorf("%s: relay %s: answered to %v", mode, gi, o.to)
			}
		}
	}
}

func TestOwnAddressesAreNeverAnswered(t *testing.T) {
	for _, mode := range []string{DHCPFull, DHCPProxy} {
		s := offWire(t, mode, func(c Client) Answer {
			t.Errorf("%s: Decide was asked about %v %v", mode, c.MAC, c.IP)
			return BootImage
		})
		own := net.HardwareAddr{2, 0, 0, 0, 0, 1}
		for _, typ := range []dhcpv4.MessageType{1, 3, 8} {
			for _, mods := range [][]dhcpv4.Modifier{
				{dhcpv4.WithHwAddr(own)},
				{dhcpv4.WithHwAddr(own), viaRelay(relayIP)},
				{dhcpv4.WithClientIP(net.IPv4(10, 77, 0, 1))},
				{dhcpv4.WithClientIP(net.IPv4(192, 168, 5, 5))}, // of another interface
			} {
				for _, port := range []uint16{dhcpServerPort, proxyPort} {
					from := netip.MustParseAddrPort("10.77.0.60:68")
					o, err := s.handleDHCP(pxe(t, typ, mods...).ToBytes(), port, from, time.Now())
					if o != nil || err != errNotOurs {
						t.Errorf("%s port %d: %v %v", mode, port, o, err)
					}
				}
			}
		}
		o, err := s.handleDHCP(pxe(t, dhcpv4.MessageTypeRequest).ToBytes(), proxyPort, netip.MustParseAddrPort("10.77.0.1:4011"), time.Now())
		if o != nil || err != errNotOurs {
			t.Errorf("%s: port 4011 from ourselves: %v %v", mode, o, err)
		}
		if s.decide(Client{MAC: own}) != Silent {
			t.Error("our own machine is told something")
		}
	}
}

func TestWhoMayAsk(t *testing.T) {
	s := offWire(t, DHCPProxy, nil2local)
	for a, want := range map[string]bool{
		"10.77.0.60": true, "::ffff:10.77.0.60": true, "10.79.0.5": true, "192.168.5.5": true,
		"10.78.0.1": false, "8.8.8.8": false, "fe80::1": false, "192.168.5.6": false,
	} {
		if got := s.mayAsk(addr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	o, err := s.handleDHCP(pxe(t, dhcpv4.MessageTypeRequest).ToBytes(), proxyPort, netip.MustParseAddrPort("10.78.0.1:4011"), time.Now())
	if o != nil || err != errNotOurs {
		t.Errorf("port 4011 from another network: %v %v", o, err)
	}
}

func TestFixedAndBOOTP(t *testing.T) {
	s := offWire(t, DHCPFull, nil2local)
	for _, typ := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest} {
		o := ask(t, s, pxe(t, typ, dhcpv4.WithHwAddr(fixedHW()), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 77, 0, 77)))))
		if o == nil || v4(o.msg.YourIPAddr) != addr("10.77.0.77") || o.msg.HostName() != "n77" {
			t.Errorf("%v: %+v", typ, o)
		}
	}
	bare := func(mods ...dhcpv4.Modifier) *out {
		m := pxe(t, 0, append(mods, dhcpv4.WithoutOption(dhcpv4.OptionDHCPMessageType))...)
		return ask(t, s, m)
	}
	o := bare(dhcpv4.WithHwAddr(fixedHW()))
	if o == nil || v4(o.msg.YourIPAddr) != addr("10.77.0.77") || o.msg.BootFileName != "pxelinux.0" {
		t.Fatalf("BOOTP of a machine with a fixed address: %+v", o)
	}
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionDHCPMessageType, dhcpv4.OptionServerIdentifier, dhcpv4.OptionIPAddressLeaseTime} {
		if o.msg.Options.Has(code) {
			t.Errorf("BOOTP answer has %v", code)
		}
	}
	if o := bare(); o != nil {
		t.Errorf("BOOTP of another machine: %+v", o)
	}
	if o := bare(dhcpv4.WithHwAddr(fixedHW()), viaRelay(relayIP)); o != nil {
		t.Errorf("BOOTP in a network where its address isn't: %+v", o)
	}
	twice := pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(fixedHW()), dhcpv4.WithGeneric(dhcpv4.OptionDHCPMessageType, []byte{1, 1}))
	if o := ask(t, s, twice); o != nil {
		t.Errorf("two types in one: %+v", o)
	}
	if o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(fixedHW()), viaRelay(relayIP))); o == nil || !s.plan.subnets[1].has(v4(o.msg.YourIPAddr)) {
		t.Errorf("its fixed address is of another network than it: %+v", o)
	}
}

func TestReadFixed(t *testing.T) {
	fixed, names, err := ReadFixed(strings.NewReader("# room 7\n52-54-00-77-00-01 10.77.0.7 n1 # first\n\n52:54:00:77:00:02 10.77.0.8\n52:54:00:77:00:03 - n3.lab.example\n"))
	if err != nil || len(fixed) != 2 || fixed[macB] != addr("10.77.0.8") || fixed[macA] != addr("10.77.0.7") || len(names) != 2 || names[macA] != "n1" {
		t.Errorf("%v %v %v", fixed, names, err)
	}
	for text, want := range map[string]string{
		"x": "want MAC ADDRESS", "a b": `line 1: MAC address "a"`, "\n52:54:00:77:00:01 10.77": `line 2: address "10.77"`,
		"52:54:00:77:00:01 ::1":                                    "want an IPv4 address",
		"52:54:00:77:00:01 10.0.0.1\n52-54-00-77-00-01 10.0.0.2":   "is there twice",
		"52:54:00:77:00:01 10.0.0.1 a_b":                           "want letters",
		"52:54:00:77:00:01 10.0.0.1 -a":                            `label "-a"`,
		"52:54:00:77:00:01 10.0.0.1 a;reboot":                      "want letters",
		"52:54:00:77:00:01 10.0.0.1 " + strings.Repeat("x", 64):    "label",
		"52:54:00:77:00:01 10.0.0.1 " + strings.Repeat("xy.", 100): "300 characters",
		strings.Repeat("y", 1<<17):                                 "token too long",
	} {
		if _, _, err := ReadFixed(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestParseSubnet(t *testing.T) {
	n, err := ParseSubnet("10.1.0.0/24, 10.1.0.10-10.1.0.99 ,10.1.0.254")
	if err != nil || n != (Subnet{Prefix: prefix("10.1.0.0/24"), From: addr("10.1.0.10"), To: addr("10.1.0.99"), Router: addr("10.1.0.254")}) {
		t.Errorf("%+v %v", n, err)
	}
	if n, err := ParseSubnet("10.1.0.0/24,,10.1.0.254"); err != nil || n.From.IsValid() || !n.Router.IsValid() {
		t.Errorf("%+v %v", n, err)
	}
	for text, want := range map[string]string{
		"": "no '/'", "10.1.0.1/24": "host bits", "10.1.0.0/24,x": "want FROM-TO", "10.1.0.0/24,a-b": "pool", "10.1.0.0/24,,r": "router", "10.1.0.0/24,,,": "want NETWORK",
	} {
		if _, err := ParseSubnet(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for want, n := range map[string][]Subnet{
		"overlaps":                         {{Prefix: prefix("10.77.0.128/25")}},
		"10.1.0.0/24 overlaps 10.1.0.0/16": {{Prefix: prefix("10.1.0.0/16")}, {Prefix: prefix("10.1.0.0/24")}},
		"want an IPv4 network":             {{Prefix: prefix("fd00::/64")}},
		"too small":                        {{Prefix: prefix("10.1.0.0/30")}},
		"is not in 10.1.0.0/24":            {{Prefix: prefix("10.1.0.0/24"), From: addr("10.2.0.1"), To: addr("10.2.0.2")}},
		"router of 10.1.0.0/24":            {{Prefix: prefix("10.1.0.0/24"), Router: addr("10.2.0.2")}},
		"at most 64":                       make([]Subnet, 65),
	} {
		_, err := Config{DHCP: DHCPFull, Subnets: n}.plan(prefix("10.77.0.1/24"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", n, err, want)
		}
	}
}

func TestOptionsAskedFor(t *testing.T) {
	s := offWire(t, DHCPFull, nil2local)
	o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithRequestedOptions(dhcpv4.OptionDomainName)))
	if o.msg.DomainName() != "lab.example" || o.msg.Options.Has(dhcpv4.OptionDomainNameServer) || len(o.msg.Router()) != 1 {
		t.Errorf("asked for the domain name: %s", o.msg.Summary())
	}
	for code, want := range map[uint8]string{208: "\xf1\x00\x74\x7e", 211: "\x00\x00\x00\x1e"} {
		if got := o.msg.Options.Get(dhcpv4.GenericOptionCode(code)); string(got) != want {
			t.Errorf("option %d: %x", code, got)
		}
	}
}

func TestSizeThatTheClientTakes(t *testing.T) {
	s := offWire(t, DHCPFull, nil2local)
	s.cfg.Domain = strings.Repeat("long.", 50)
	full := dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, bytes.Repeat([]byte{7}, 200))
	for _, c := range []struct{ max, limit int }{{0, dhcpMinMaxSize}, {576, dhcpMinMaxSize}, {1500, maxDatagram}, {65535, maxDatagram}, {1, dhcpMinMaxSize}} {
		mods := []dhcpv4.Modifier{full}
		if c.max > 0 {
			mods = append(mods, dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(uint16(c.max))))
		}
		o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, mods...))
		if len(o.wire) > c.limit {
			t.Errorf("client takes %d: reply of %d bytes", c.max, len(o.wire))
		}
		if big := c.limit == maxDatagram; big != (o.msg.DomainName() != "") || !v4(o.msg.YourIPAddr).IsValid() || !o.msg.Options.Has(dhcpv4.OptionRelayAgentInformation) {
			t.Errorf("client takes %d: %s", c.max, o.msg.Summary())
		}
	}
	o, err := s.handleDHCP(pxe(t, 1, dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, make([]byte, 1100))).ToBytes(), dhcpServerPort, netip.AddrPort{}, time.Now())
	if o != nil && len(o.wire) > maxDatagram {
		t.Errorf("a long option 82: %d bytes, %v", len(o.wire), err)
	}
}

// TestBadRequests has the bad inputs that DHCP servers fell over: no panic,
// one answer at most, never a large one.
func TestBadRequests(t *testing.T) {
	good := pxe(t, dhcpv4.MessageTypeDiscover).ToBytes()
	set := func(off int, v ...byte) []byte { b := bytes.Clone(good); copy(b[off:], v); return b }
	with := func(opts ...byte) []byte { return append(append(bytes.Clone(good[:240]), 53, 1, 1), opts...) }
	pxeOpts := append([]byte{60, 9}, "PXEClient"...)
	long := bytes.Repeat(append([]byte{61, 255}, bytes.Repeat([]byte{1}, 255)...), 100)
	cases := map[string][]byte{
		"nothing": {}, "64k": make([]byte, 65507), "64k of options": append(with(long[:25700]...), 255), "only padding": append(bytes.Clone(good[:240]), make([]byte, 1000)...),
		"no magic": set(236, 0, 0, 0, 0), "hlen 0": set(2, 0), "hlen 16": set(2, 16), "hlen 255": set(2, 255), "no end": with(pxeOpts...),
		"option beyond the end": with(60, 200, 'P'), "length missing": with(60), "zero lengths": append(with(60, 0, 93, 0, 97, 0, 77, 0, 82, 0, 50, 0, 54, 0, 57, 0, 55, 0), 255),
		"type 0": append(append(bytes.Clone(good[:240]), 53, 1, 0), 255), "type 255": append(append(bytes.Clone(good[:240]), 53, 1, 255), 255),
		"type of no length": append(append(bytes.Clone(good[:240]), 53, 0), 255), "type twice": append(with(53, 1, 3), 255),
		"overload 0": append(with(52, 1, 0), 255), "overload 4": append(with(52, 1, 4), 255), "overload of two bytes": append(with(52, 2, 1, 1), 255),
		"overload, file broken": append(set(108, 60, 200)[:240], 53, 1, 1, 52, 1, 1, 255), "overload, sname broken": append(set(44, 60, 200)[:240], 53, 1, 1, 52, 1, 2, 255),
		"overload of overload": append(set(108, 52, 1, 3, 255)[:240], 53, 1, 1, 52, 1, 1, 255),
	}
	for i := range good {
		cases[fmt.Sprintf("cut after %d bytes", i)] = good[:i]
	}
	for _, mode := range []string{DHCPFull, DHCPProxy} {
		s := offWire(t, mode, nil2local)
		for name, b := range cases {
			for _, port := range []uint16{dhcpServerPort, proxyPort} {
				o, err := s.handleDHCP(b, port, netip.MustParseAddrPort("10.77.0.60:68"), time.Now())
				whole := strings.HasPrefix(name, "cut") || strings.HasPrefix(name, "overload") || strings.HasPrefix(name, "type")
				if o != nil && (err != nil || len(o.wire) > maxDatagram) {
					t.Errorf("%s, %s: reply of %d bytes, %v", mode, name, len(o.wire), err)
				}
				if o != nil && whole && name != "overload of overload" {
					t.Errorf("%s, %s: answered %s", mode, name, o.msg.Summary())
				}
			}
		}
		if ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover)) == nil {
			t.Errorf("%s: no answer any more", mode)
		}
	}
}

// TestOverloadIsRead: class and architecture lie in file and sname.
func TestOverloadIsRead(t *testing.T) {
	m := pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithoutOption(dhcpv4.OptionClassIdentifier), dhcpv4.WithoutOption(dhcpv4.OptionClientSystemArchitectureType),
		dhcpv4.WithGeneric(dhcpv4.OptionOptionOverload, []byte{3}))
	b := m.ToBytes()
	copy(b[fileFrom:], append(append([]byte{60, 9}, "PXEClient"...), 255))
	copy(b[snameFrom:], []byte{93, 2, 0, 0, 255})
	s := offWire(t, DHCPProxy, nil2local)
	o, err := s.handleDHCP(b, dhcpServerPort, netip.AddrPort{}, time.Now())
	if err != nil || o == nil || o.msg.BootFileName != "pxelinux.0" {
		t.Errorf("%+v %v", o, err)
	}
}

func TestEtherboot(t *testing.T) {
	for _, mode := range []string{DHCPFull, DHCPProxy} {
		s := offWire(t, mode, nil2local)
		o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptClassIdentifier("Etherboot-5.4")),
			dhcpv4.WithoutOption(dhcpv4.OptionClientSystemArchitectureType), dhcpv4.WithoutOption(dhcpv4.OptionUserClassInformation)))
		if o == nil || o.msg.BootFileName != "pxelinux.0" || o.msg.ClassIdentifier() != "Etherboot-5.4" ||
			string(o.msg.Options.Get(dhcpv4.OptionVendorSpecificInformation)) != "\x3c\x09Etherboot\xff" {
			t.Errorf("%s: %+v", mode, o)
		}
	}
}

// TestLongOptionsAreJoined: RFC 3396.
func TestLongOptionsAreJoined(t *testing.T) {
	id := bytes.Repeat([]byte{9}, 300)
	s := offWire(t, DHCPFull, nil2local)
	o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGeneric(dhcpv4.OptionClientIdentifier, id)))
	r, err := dhcpv4.FromBytes(o.wire)
	if err != nil || !bytes.Equal(r.Options.Get(dhcpv4.OptionClientIdentifier), id) {
		t.Errorf("%v %v", r, err)
	}
}
