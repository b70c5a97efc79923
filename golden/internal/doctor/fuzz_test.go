package doctor

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func loopback(t testing.TB) *net.Interface {
	t.Helper()
	i, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Whatever is on the wire, the watch lives, keeps its bounds, and what it says
// can be printed.
func FuzzWire(f *testing.F) {
	d, err := dhcpv4.NewDiscovery(nodeMAC[:], dhcpv4.WithOption(dhcpv4.OptClassIdentifier(questions()[1].class)), dhcpv4.WithOption(dhcpv4.OptClientArch(11)))
	if err != nil {
		f.Fatal(err)
	}
	o, err := dhcpv4.NewReplyFromRequest(d, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithYourIP(net.IP{10, 77, 0, 9}), dhcpv4.WithOption(dhcpv4.OptBootFileName("x.0")))
	if err != nil {
		f.Fatal(err)
	}
	rrq := udpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 69), []byte("\x00\x01pxelinux.0\x00octet\x00"))
	for _, seed := range [][]byte{
		rrq, nil, rrq[:20],
		udpFrame(nodeMAC, srvMAC, ap(netip.IPv4Unspecified(), 68), ap(server, 67), d.ToBytes()),
		udpFrame(srvMAC, nodeMAC, ap(server, 67), ap(node, 68), o.ToBytes()),
		udpFrame(srvMAC, nodeMAC, ap(server, 40000), ap(node, 2000), []byte("\x00\x05\x00\x01gone\x00")),
		httpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 8069), "GET /x HTTP/1.1\r\n"),
		httpFrame(srvMAC, nodeMAC, ap(server, 8069), ap(node, 2000), "HTTP/1.1 404 Not Found\r\n"),
		icmpFrame(4, rrq), arpRequest(nodeMAC, node, server),
	} {
		f.Add(seed)
	}
	e := newExam(Config{})
	e.ifi = loopback(f)
	at := time.Now()
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWatch()
		w.add(at, rrq)
		w.add(at, b)
		w.add(at, b)
		w.astray("eth7", b)
		if len(w.machines) > 4 {
			t.Errorf("%d machines of three frames", len(w.machines))
		}
		r := Report{Findings: e.diagnose(w, at.Add(time.Minute))}
		for _, m := range w.order {
			r.Story = append(r.Story, m.steps...)
		}
		if err := r.Text(new(bytes.Buffer)); err != nil {
			t.Error(err)
		}
	})
}

// Whatever nft prints, a verdict comes.
func FuzzRules(f *testing.F) {
	f.Add([]byte(rules))
	f.Add([]byte(`{"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c", "hook": "input", "policy": "drop"}}, {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"jump": {"target": "c"}}, {"vmap": []}, {"match": {"op": "<", "left": 1, "right": {"range": [1]}}}]}}]}`))
	f.Add([]byte(`{"nftables": null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRuleset(b)
		if err != nil {
			return
		}
		for _, p := range []int{67, 8069} {
			r.judge(arrival{proto: "udp", port: p, iface: "br0", from: netip.MustParsePrefix("10.77.0.0/24"), to: server})
		}
	})
}

func FuzzBzImage(f *testing.F) {
	f.Add(bzImage("6.1.0", 0x4000))
	f.Add(bzImage("6.1.0", 0x4000)[:0x300])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := kernelRelease(bytes.NewReader(b)); err == nil && (s == "" || clean(s) != s || len(s) > 256) {
			t.Errorf("release %q", s)
		}
	})
}

func FuzzModulesAlias(f *testing.F) {
	f.Add([]byte("# x\nalias pci:v00008086d*sv*sd*bc02sc*i* igb\nalias pci:[ x\n"))
	f.Add([]byte("igb.alias=pci:v00008086d*\x00igb.license=GPL\x00=\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, list := range [][]alias{parseAliases(b), parseBuiltin(b)} {
			driverOf(list, "pci:v00008086d00001533sv00000000sd00000000bc02sc00i00")
		}
	})
}

// A cpio archive of any kind ends, with an error or without.
func FuzzInitramfs(f *testing.F) {
	f.Add([]byte("070701" + "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000" + "0000000b" + "00000000" + "TRAILER!!!\x00"))
	f.Add([]byte("070701"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &stage1{modules: map[string]string{}}
		_ = readNewc(bytes.NewReader(b), s.take) // most are none
	})
}
