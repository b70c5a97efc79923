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
	"testing/fstest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"
)

type netipAddr = netip.Addr

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// offWire is a server without sockets: what it would answer, it returns.
func offWire(t testing.TB, mode string, decide func(Client) Answer) *Server {
	t.Helper()
	files, err := FromFS(fstest.MapFS{"pxelinux.0": {Data: []byte("loader")}, "images/vmlinuz": {Data: []byte("kernel")}})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Config{Interface: "br0", DHCP: mode, Files: files, Decide: decide, Router: addr("10.77.0.254"),
		DNS: []netip.Addr{addr("10.77.0.3")}, Domain: "lab.example",
		Subnets: []Subnet{{Prefix: prefix("10.79.0.0/24"), From: addr("10.79.0.100"), To: addr("10.79.0.109"), Router: addr("10.79.0.254")}},
		Fixed:   map[string]netip.Addr{"52:54:00:77:0f:01": addr("10.77.0.77")},
		Names:   map[string]string{"52:54:00:77:0f:01": "n77"}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	l := &link{name: "br0", mtu: 1500, self: prefix("10.77.0.1/24")}
	l.own.Store(&hostAddrs{macs: map[[6]byte]bool{{2, 0, 0, 0, 0, 1}: true}, ips: map[netip.Addr]bool{addr("10.77.0.1"): true, addr("192.168.5.5"): true}})
	s := &Server{cfg: cfg, link: l, seen: newSeenTable(), events: make(chan Event, 1), caps: newTransferCaps()}
	if s.plan, err = cfg.plan(l.self); err != nil {
		t.Fatal(err)
	}
	if mode == DHCPFull {
		s.leases = newLeaseTable(s.plan, cfg.LeaseTime)
	}
	return s
}

func hw(last byte) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, last} }

// pxe makes what SeaBIOS with iPXE sends, as captured from QEMU.
func pxe(t testing.TB, typ dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(hw(1)), dhcpv4.WithMessageType(typ), dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")),
		dhcpv4.WithOption(dhcpv4.OptClientArch(iana.INTEL_X86PC)),
		dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, "\x00\x00\x77\x77\x34\x12\xbc\x4a\x80\x00\x00\x00\x00\x00\x00\x01"...)),
	}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ask(t testing.TB, s *Server, m *dhcpv4.DHCPv4) *out {
	t.Helper()
	o, err := s.handleDHCP(m.ToBytes(), dhcpServerPort, netip.AddrPort{}, time.Now())
	if err != nil && err != errNotOurs {
		t.Fatal(err)
	}
	return o
}

func TestOfferToROM(t *testing.T) {
	var asked Client
	s := offWire(t, DHCPFull, func(c Client) Answer { asked = c; return BootImage })
	o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover))
	if o == nil {
		t.Fatal("no offer")
	}
	r, err := dhcpv4.FromBytes(o.msg.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	if !r.ServerIPAddr.Equal(net.IPv4(10, 77, 0, 1)) || r.ServerHostName != "10.77.0.1" || r.BootFileName != "pxelinux.0" ||
		r.BootFileNameOption() != "pxelinux.0" || r.TFTPServerName() != "10.77.0.1" || r.ClassIdentifier() != "PXEClient" {
		t.Errorf("boot information: %s", r.Summary())
	}
	for code, want := range map[uint8]string{43: "\x06\x01\x08\xff", 175: "\xb0\x01\x01", 54: "\x0a\x4d\x00\x01",
		97: "\x00\x00\x00\x77\x77\x34\x12\xbc\x4a\x80\x00\x00\x00\x00\x00\x00\x01"} {
		if got := r.Options.Get(dhcpv4.GenericOptionCode(code)); string(got) != want {
			t.Errorf("option %d: %x, want %x", code, got, want)
		}
	}
	if o.to != netip.MustParseAddrPort("255.255.255.255:68") || o.hw.String() != "ff:ff:ff:ff:ff:ff" {
		t.Errorf("sent to %v at %v", o.to, o.hw)
	}
	if asked.UUID != "77770000-1234-4abc-8000-000000000001" || asked.Arch != 0 || asked.UserClass != "iPXE" || asked.MAC.String() != macA {
		t.Errorf("Decide was asked about %+v", asked)
	}
	if n := len(o.msg.ToBytes()); n > dhcpMinMaxSize {
		t.Errorf("offer has %d bytes, every client takes %d only", n, dhcpMinMaxSize)
	}
}

func TestLongDomainDoesntSwellTheOffer(t *testing.T) {
	s := offWire(t, DHCPFull, nil2local)
	s.cfg.Domain = strings.Repeat("long.", 50)
	o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover))
	if n := len(o.msg.ToBytes()); n > dhcpMinMaxSize || o.msg.BootFileName == "" {
		t.Errorf("offer of %d bytes with boot file %q", n, o.msg.BootFileName)
	}
}

func TestWhoIsAnswered(t *testing.T) {
	decide := func(c Client) Answer {
		if c.MAC[5] == 1 {
			return LocalBoot
		}
		return Silent
	}
	without := func(c dhcpv4.OptionCode) dhcpv4.Modifier { return dhcpv4.WithoutOption(c) }
	for _, c := range []struct {
		name        string
		mods        []dhcpv4.Modifier
		full, proxy bool // boot information
	}{
		{"a ROM", nil, true, true},
		{"a machine that Decide silences", []dhcpv4.Modifier{dhcpv4.WithHwAddr(hw(2))}, false, false},
		{"no option 60", []dhcpv4.Modifier{without(dhcpv4.OptionClassIdentifier)}, false, false},
		{"no option 93, but 60", []dhcpv4.Modifier{without(dhcpv4.OptionClientSystemArchitectureType)}, true, true},
		{"no option 97", []dhcpv4.Modifier{without(dhcpv4.OptionClientMachineIdentifier)}, true, true},
		{"a short option 97", []dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, []byte{0, 1})}, false, false},
		{"an architecture that we can't boot", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_ARM64)),
			without(dhcpv4.OptionUserClassInformation)}, false, false},
		{"iPXE on such a one, for its disk", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_ARM64))}, true, true},
		{"two architectures", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_ARM64, iana.INTEL_X86PC))}, true, true},
		{"an odd option 93", []dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0})}, true, true},
	} {
		for mode, want := range map[string]bool{DHCPFull: c.full, DHCPProxy: c.proxy} {
			s := offWire(t, mode, decide)
			o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, c.mods...))
			if got := o != nil && o.msg.BootFileName != ""; got != want {
				t.Errorf("%s, %s: boot information %v, want %v", c.name, mode, got, want)
			}
			if mode == DHCPFull && (o == nil || !v4(o.msg.YourIPAddr).IsValid()) {
				t.Errorf("%s: no address in full mode", c.name)
			}
			if mode == DHCPProxy && o != nil && (v4(o.msg.YourIPAddr).IsValid() || o.msg.Options.Has(dhcpv4.OptionIPAddressLeaseTime)) {
				t.Errorf("%s: an address in proxy mode", c.name)
			}
		}
	}
}

func TestNeverAnswered(t *testing.T) {
	for name, mod := range map[string]dhcpv4.Modifier{
		"our own MAC":  dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 1}),
		"no MAC":       dhcpv4.WithHwAddr(make(net.HardwareAddr, 6)),
		"a group":      dhcpv4.WithHwAddr(net.HardwareAddr{1, 0, 0, 0, 0, 1}),
		"a long MAC":   dhcpv4.WithHwAddr(make(net.HardwareAddr, 8)),
		"a reply":      func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply },
		"an offer":     dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer),
		"BOOTP":        dhcpv4.WithoutOption(dhcpv4.OptionDHCPMessageType),
		"far relay":    dhcpv4.WithGatewayIP(net.IPv4(10, 78, 0, 1)),
		"not Ethernet": dhcpv4.WithHWType(iana.HWTypeInfiniband),
	} {
		s := offWire(t, DHCPFull, func(Client) Answer { return BootImage })
		if o := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, mod)); o != nil {
			t.Errorf("%s: answered %s", name, o.msg.Summary())
		}
	}
}

func TestRequestStates(t *testing.T) {
	s := offWire(t, DHCPFull, nil2local)
	offer := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover))
	ip := v4(offer.msg.YourIPAddr)
	with := func(mods ...dhcpv4.Modifier) *out { return ask(t, s, pxe(t, dhcpv4.MessageTypeRequest, mods...)) }
	req := func(a netip.Addr) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(a.AsSlice()))
	}
	sid := func(a string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(addr(a).AsSlice()))
	}
	typ := func(o *out) dhcpv4.MessageType {
		if o == nil {
			return 0
		}
		return o.msg.MessageType()
	}
	if o := with(req(ip), sid("10.77.0.1")); typ(o) != dhcpv4.MessageTypeAck || v4(o.msg.YourIPAddr) != ip {
		t.Fatalf("selecting: %v", o)
	}
	if o := with(req(ip)); typ(o) != dhcpv4.MessageTypeAck {
		t.Errorf("init-reboot: %v", o)
	}
	renew := with(dhcpv4.WithClientIP(ip.AsSlice()), dhcpv4.WithBroadcast(false))
	if typ(renew) != dhcpv4.MessageTypeAck || renew.to.Addr() != ip || renew.hw.String() != macA {
		t.Errorf("renewing: %+v", renew)
	}
	if o := with(req(addr("192.168.1.9"))); typ(o) != dhcpv4.MessageTypeNak || o.to.Addr() != addr("255.255.255.255") {
		t.Errorf("an address of another network: %v", o)
	}
	if o := with(req(ip), dhcpv4.WithHwAddr(hw(9))); typ(o) != dhcpv4.MessageTypeNak {
		t.Errorf("somebody else's address: %v", o)
	}
	// Beside another server, only what can't be that one's.
	const theirs = "10.77.0.9"
	if o := with(req(addr(theirs))); typ(o) != dhcpv4.MessageTypeNak {
		t.Errorf("an address outside the pool: %v", o)
	}
	s.cfg.Force = true
	for name, o := range map[string]*out{
		"init-reboot": with(req(addr(theirs)), dhcpv4.WithHwAddr(hw(9))),
		"rebinding":   with(dhcpv4.WithClientIP(addr(theirs).AsSlice()), dhcpv4.WithHwAddr(hw(9))),
	} {
		if o != nil {
			t.Errorf("%s for another server's address: %v", name, o)
		}
	}
	for name, o := range map[string]*out{
		"another network's":  with(req(addr("192.168.1.9")), dhcpv4.WithHwAddr(hw(9))),
		"another machine's":  with(req(ip), dhcpv4.WithHwAddr(hw(9))),
		"asked of us, wrong": with(req(addr(theirs)), sid("10.77.0.1"), dhcpv4.WithHwAddr(hw(9))),
	} {
		if typ(o) != dhcpv4.MessageTypeNak {
			t.Errorf("with --force, an address that is %s: %v", name, o)
		}
	}
	s.cfg.Force = false
	if o := with(req(ip), sid("10.77.0.2")); o != nil {
		t.Errorf("another server was chosen: %v", o)
	}
	if o := with(); o != nil {
		t.Errorf("no address requested: %v", o)
	}
	uni := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(false)))
	if uni.to.Addr() != ip || uni.hw.String() != macA {
		t.Errorf("offer without the broadcast flag goes to %v at %v", uni.to, uni.hw)
	}
	relay := ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.IPv4(10, 77, 0, 200)),
		dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 2, 'p', '7'})))
	if relay.to != netip.MustParseAddrPort("10.77.0.200:67") || string(relay.msg.Options.Get(dhcpv4.OptionRelayAgentInformation)) != "\x01\x02p7" {
		t.Errorf("by a relay: %v", relay.msg.Summary())
	}
}

func nil2local(Client) Answer { return LocalBoot }

func TestBootServerPort(t *testing.T) {
	s := offWire(t, DHCPProxy, nil2local)
	from := netip.MustParseAddrPort("10.77.0.60:4011")
	o, err := s.handleDHCP(pxe(t, dhcpv4.MessageTypeRequest).ToBytes(), proxyPort, from, time.Now())
	if err != nil || o == nil || o.to != from || o.msg.MessageType() != dhcpv4.MessageTypeAck || o.msg.BootFileName != "pxelinux.0" {
		t.Errorf("port 4011: %+v, %v", o, err)
	}
}

func TestLeases(t *testing.T) {
	p, err := Config{Interface: "br0", DHCP: DHCPFull, RangeFrom: addr("10.77.0.10"), RangeTo: addr("10.77.0.12"),
		Fixed: map[string]netip.Addr{"52:54:00:77:00:09": addr("10.77.0.11")}}.plan(prefix("10.77.0.1/24"))
	if err != nil {
		t.Fatal(err)
	}
	lt := newLeaseTable(p, time.Hour)
	now := time.Now()
	k := func(b byte) asker { return asker{mac: [6]byte(hw(b)), net: p.subnets[0], known: true} }
	if ip, ok := lt.offer(k(9), addr("10.77.0.10"), now); !ok || ip != addr("10.77.0.11") {
		t.Errorf("fixed: %v", ip)
	}
	a, _ := lt.offer(k(1), netip.Addr{}, now)
	b, _ := lt.offer(k(2), a, now) // wants what is taken
	if a == b || !a.IsValid() || !b.IsValid() || a == addr("10.77.0.11") || b == addr("10.77.0.11") {
		t.Fatalf("two machines: %v and %v", a, b)
	}
	if ip, ok := lt.offer(k(3), netip.Addr{}, now); ok {
		t.Errorf("a third address of two: %v", ip)
	}
	if !lt.confirm(k(1), a, now) {
		t.Error("not confirmed")
	}
	later := now.Add(offerTime)
	if ip, ok := lt.offer(k(3), netip.Addr{}, later); !ok || ip != b {
		t.Errorf("an offer that nobody took isn't free again: %v", ip)
	}
	if ip, _ := lt.offer(k(1), netip.Addr{}, now.Add(9*time.Hour)); ip != a {
		t.Errorf("after its lease a machine gets %v, want %v again", ip, a)
	}
	lt.decline(k(1), a, now)
	if ip, ok := lt.offer(k(1), a, now); ok && ip == a {
		t.Error("a declined address was offered")
	}
	if ip, ok := lt.offer(k(1), a, now.Add(declineTime)); !ok || ip != a {
		t.Errorf("after its rest: %v", ip)
	}
}

func TestUpperHalf(t *testing.T) {
	for self, want := range map[string][2]string{
		"10.77.0.1/24":    {"10.77.0.128", "10.77.0.254"},
		"192.168.4.9/22":  {"192.168.6.0", "192.168.7.254"},
		"192.168.4.17/29": {"192.168.4.20", "192.168.4.22"},
	} {
		if from, to := upperHalf(prefix(self)); from != addr(want[0]) || to != addr(want[1]) {
			t.Errorf("%s: %v to %v, want %v", self, from, to, want)
		}
	}
	s := offWire(t, DHCPFull, nil2local)
	n := s.plan.subnets[0]
	n.prefix = prefix("10.77.0.200/24")
	a := asker{net: n, known: true}
	for b := range 126 {
		a.mac = [6]byte(hw(byte(b)))
		ip, ok := s.leases.offer(a, netip.Addr{}, time.Now())
		if !ok || ip == addr("10.77.0.200") {
			t.Fatalf("machine %d: %v %v", b, ip, ok)
		}
	}
	a.mac = [6]byte(hw(200))
	if _, ok := s.leases.offer(a, netip.Addr{}, time.Now()); ok {
		t.Error("the pool has our own address in it")
	}
}

func TestLeaseFileWithACutLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases")
	log := slog.New(slog.DiscardHandler)
	s := offWire(t, DHCPFull, nil2local)
	if err := s.leases.load(path, time.Now(), log); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		a := asker{mac: [6]byte(hw(byte(i))), net: s.plan.subnets[0]}
		if ok := s.leases.confirm(a, addr("10.77.0.13"+string(rune('0'+i))), time.Now()); !ok {
			t.Fatal("refused")
		}
	}
	if err := s.leases.close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || bytes.Count(b, []byte("\n")) != 3 {
		t.Fatalf("%v\n%s", err, b)
	}
	if err := os.WriteFile(path, b[:len(b)-10], 0o644); err != nil { // the power failed
		t.Fatal(err)
	}
	s = offWire(t, DHCPFull, nil2local)
	if err := s.leases.load(path, time.Now(), log); err != nil {
		t.Fatal(err)
	}
	if n := len(s.leases.byMAC); n != 2 {
		t.Errorf("%d leases after a cut line, want 2", n)
	}
	if err := s.leases.close(); err != nil {
		t.Fatal(err)
	}
}

func TestSeenIsBounded(t *testing.T) {
	s := newSeenTable()
	s.put(Client{MAC: hw(1), ClassID: "answered"}, true)
	for i := range 100_000 {
		s.put(Client{MAC: net.HardwareAddr{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}, ClassID: "x"}, false)
	}
	if n := len(s.others.cur) + len(s.others.old); n > 2*seenGeneration {
		t.Errorf("%d clients kept", n)
	}
	if got := s.get(hw(1)); got.ClassID != "answered" {
		t.Errorf("strangers drove out a machine that was answered: %+v", got)
	}
}

func TestDatagramRoundTrip(t *testing.T) {
	d := datagram{src: netip.MustParseAddrPort("10.77.0.1:67"), dst: netip.MustParseAddrPort("255.255.255.255:68"), payload: []byte("odd")}
	b := d.bytes()
	got, err := parseDatagram(b)
	if err != nil || got.src != d.src || got.dst != d.dst || string(got.payload) != "odd" {
		t.Errorf("%+v, %v", got, err)
	}
	if Checksum(0, b[:ipHeaderLen]) != 0 {
		t.Error("IP header checksum is wrong")
	}
	if Checksum(PseudoSum(unix.IPPROTO_UDP, d.src.Addr(), d.dst.Addr(), len(b)-ipHeaderLen), b[ipHeaderLen:]) != 0 {
		t.Error("UDP checksum is wrong")
	}
	for i := range b {
		if _, err := parseDatagram(b[:i]); err == nil {
			t.Errorf("%d of %d bytes were taken", i, len(b))
		}
	}
}

func TestTransferCaps(t *testing.T) {
	c := newTransferCaps()
	at := func(ip byte, port uint16, name string) transfer {
		return transfer{to: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, ip}), port), name: name}
	}
	if !c.begin(at(1, 1000, "a")) || c.begin(at(1, 1000, "a")) {
		t.Error("a repeated request must not start a second transfer")
	}
	for p := range uint16(3) {
		if !c.begin(at(1, 2000+p, "a")) {
			t.Errorf("transfer %d of %d refused", p+2, maxPerAddress)
		}
	}
	if c.begin(at(1, 3000, "a")) {
		t.Error("a fifth transfer of one address")
	}
	c.end(at(1, 1000, "a"))
	if !c.begin(at(1, 1000, "a")) {
		t.Error("not free again after the end")
	}
}
