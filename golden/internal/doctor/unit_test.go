package doctor

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/trust"
)

// The images that mkimage really makes can be read.
func TestRealImages(t *testing.T) {
	dir := "../../../images"
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Skip("needs make image")
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := kernelRelease(f); got != m.Kernel.Release || err != nil {
		t.Errorf("vmlinuz: release %q, %v; the manifest says %q", got, err, m.Kernel.Release)
	}
	s, err := readStage1(filepath.Join(dir, "all.rdz"))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.releases) != 1 || s.releases[0] != m.Kernel.Release || s.pin.IsZero() {
		t.Errorf("all.rdz: modules of %q, key %v", s.releases, s.pin)
	}
	for id, want := range map[string]string{"8086:1533": "igb", "8086:100e": "e1000", "10ec:8168": "r8169", "15b3:1017": "mlx5_core", "1234:5678": ""} {
		alias, err := pciAlias(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := driverOf(s.aliases, alias); got != want {
			t.Errorf("%s: driver %q, want %q", id, got, want)
		}
		if want != "" && s.modules[want] == "" {
			t.Errorf("%s: no file of module %s", id, want)
		}
	}
}

func TestKernelReleaseOfNonsense(t *testing.T) {
	good := bzImage("6.1.0-lab", 1<<16)
	if got, err := kernelRelease(bytes.NewReader(good)); got != "6.1.0-lab" || err != nil {
		t.Errorf("release %q, %v", got, err)
	}
	for name, b := range map[string][]byte{"empty": {}, "short": good[:bzVersion], "no text": append([]byte{}, good[:0x3000]...), "text": []byte(strings.Repeat("x", 40000))} {
		if got, err := kernelRelease(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: release %q", name, got)
		}
	}
}

func TestPCIAlias(t *testing.T) {
	for _, id := range []string{"", ":", "8086", "8086:", "80868:1533", "8086:153x", "pci:v0"} {
		if got, err := pciAlias(id); err == nil {
			t.Errorf("%q: %q", id, got)
		}
	}
}

// rules of a firewall, as nft 1.0.6 prints them.
const rules = `{"nftables": [{"metainfo": {"version": "1.0.6"}},
{"table": {"family": "inet", "name": "filter", "handle": 1}},
{"set": {"family": "inet", "name": "okports", "table": "filter", "type": "inet_service", "flags": ["interval"], "elem": [22, {"elem": {"val": 69, "counter": {}}}, {"range": [4000, 5000]}]}},
{"map": {"family": "inet", "name": "verdicts", "table": "filter", "elem": [[30764, {"drop": null}], [30765, {"accept": null}]]}},
{"chain": {"family": "inet", "table": "filter", "name": "sub"}},
{"chain": {"family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
{"chain": {"family": "inet", "table": "filter", "name": "forward", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
{"chain": {"family": "ip6", "table": "six", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
{"rule": {"family": "inet", "table": "filter", "chain": "sub", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 67}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "sub", "expr": [{"return": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "lo"}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", {"accept": null}], ["invalid", {"drop": null}]]}}}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": "@okports"}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}, {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 8069}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "10.77.0.9"}}, {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 8070}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"jump": {"target": "sub"}}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"vmap": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": "@verdicts"}}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "!=", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}}, {"match": {"op": ">=", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 40000}}, {"limit": {"rate": 5, "per": "second"}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": {"set": ["br1", "virbr*"]}}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"xt": null}, {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "udp"}}, {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 777}}, {"counter": {"packets": 0}}, {"accept": null}]}}
]}`

func TestRules(t *testing.T) {
	r, err := parseRuleset([]byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		proto         string
		port          int
		iface         string
		dropped, sure bool
	}{
		{"udp", 67, "br0", false, true},    // by the jump
		{"udp", 69, "br0", false, true},    // in the set
		{"udp", 4011, "br0", false, true},  // in its range
		{"udp", 68, "br0", true, true},     // by the policy
		{"tcp", 69, "br0", true, true},     // the set is of UDP
		{"tcp", 8069, "br0", false, true},  // from where nodes are
		{"tcp", 8070, "br0", true, false},  // from one of them
		{"tcp", 30764, "br0", true, true},  // by the map
		{"tcp", 30765, "br0", false, true}, // by the map
		{"tcp", 40000, "br0", true, false}, // a few of them
		{"tcp", 80, "br0", true, true},
		{"udp", 68, "br1", false, true},
		{"udp", 68, "virbr7", false, true},
		{"udp", 68, "br10", true, true},
		{"udp", 777, "br0", true, false}, // an extension of iptables that nft can't print
	} {
		got := r.judge(arrival{proto: c.proto, port: c.port, iface: c.iface, from: netip.MustParsePrefix("10.77.0.0/24"), to: netip.MustParseAddr("10.77.0.1"), pkttype: "host"})
		if got.dropped != c.dropped || got.dropped && got.sure != c.sure {
			t.Errorf("%s %d on %s: %+v, want dropped %v, sure %v", c.proto, c.port, c.iface, got, c.dropped, c.sure)
		}
		raw := r.judge(arrival{proto: c.proto, port: c.port, iface: c.iface, noSocket: true})
		if raw.dropped {
			t.Errorf("%s %d: a packet socket is behind %s", c.proto, c.port, raw.by)
		}
	}
}

// Chains that jump to each other end.
func TestRulesWithoutEnd(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c", "hook": "input", "policy": "drop"}}`)
	for range 50 {
		b.WriteString(`,{"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"jump": {"target": "c"}}]}}`)
	}
	b.WriteString("]}")
	r, err := parseRuleset([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if got := r.judge(arrival{proto: "udp", port: 69}); got.sure && got.dropped {
		t.Errorf("sure of rules that were not walked to their end: %+v", got)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

var (
	nodeMAC = mac{0x52, 0x54, 0, 0x77, 0, 1}
	srvMAC  = mac{2, 0x77, 0, 0, 0, 1}
	node    = netip.MustParseAddr("10.77.0.9")
	server  = netip.MustParseAddr("10.77.0.1")
)

func ap(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// icmpFrame is an ICMP error about a datagram of the node.
func icmpFrame(code byte, about []byte) []byte {
	return ipFrame(srvMAC, nodeMAC, server, node, unix.IPPROTO_ICMP, append([]byte{icmpUnrch, code, 0, 0, 0, 0, 5, 0}, about[etherLen:]...))
}

// httpFrame is a segment with data.
func httpFrame(src, dst mac, from, to netip.AddrPort, text string) []byte {
	b := tcpFrame(src, dst, from, to, tcpACK, 1, 1)
	seg := append(b[etherLen+ipLen:len(b):len(b)], text...)
	return ipFrame(src, dst, from.Addr(), to.Addr(), unix.IPPROTO_TCP, seg)
}

// The filter of the kernel lets through what the watch wants, and no more.
func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(wireFilter(8069))
	if err != nil {
		t.Fatal(err)
	}
	rrq := udpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 69), []byte("\x00\x01pxelinux.0\x00octet\x00"))
	vlan := append(append(append([]byte{}, rrq[:12]...), 0x81, 0, 0, 5), rrq[12:]...)
	for _, c := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"read request", rrq, true},
		{"DISCOVER", udpFrame(nodeMAC, srvMAC, ap(netip.IPv4Unspecified(), 68), ap(server, 67), []byte{1}), true},
		{"offer", udpFrame(srvMAC, nodeMAC, ap(server, 67), ap(node, 68), []byte{2}), true},
		{"4011", udpFrame(srvMAC, nodeMAC, ap(server, 4011), ap(node, 68), []byte{2}), true},
		{"TFTP error", udpFrame(srvMAC, nodeMAC, ap(server, 40000), ap(node, 2000), []byte("\x00\x05\x00\x01gone\x00")), true},
		{"first block", udpFrame(srvMAC, nodeMAC, ap(server, 40000), ap(node, 2000), []byte("\x00\x03\x00\x01text")), true},
		{"second block", udpFrame(srvMAC, nodeMAC, ap(server, 40000), ap(node, 2000), []byte("\x00\x03\x00\x02text")), false},
		{"acknowledgement", udpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 40000), []byte("\x00\x04\x00\x02")), false},
		{"DNS", udpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 53), []byte("question")), false},
		{"empty datagram", udpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 53), nil), false},
		{"GET", httpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 8069), "GET / HTTP/1.1\r\n"), true},
		{"HEAD", httpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 8069), "HEAD / HTTP/1.1\r\n"), true},
		{"HTTP answer", httpFrame(srvMAC, nodeMAC, ap(server, 8069), ap(node, 2000), "HTTP/1.1 404 Not Found\r\n"), true},
		{"HTTP data", httpFrame(srvMAC, nodeMAC, ap(server, 8069), ap(node, 2000), "the rest of a file"), false},
		{"TCP without data", tcpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 8069), tcpSYN, 1, 0), false},
		{"GET elsewhere", httpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 80), "GET / HTTP/1.1\r\n"), false},
		{"unreachable", icmpFrame(4, rrq), true},
		{"ping", ipFrame(nodeMAC, srvMAC, node, server, unix.IPPROTO_ICMP, []byte{8, 0, 0, 0, 0, 0, 0, 0}), false},
		{"ARP", arpRequest(nodeMAC, node, server), false},
		{"VLAN", vlan, false}, // the kernel takes the tag off first
		{"nothing", []byte{1, 2, 3}, false},
	} {
		n, err := vm.Run(c.b)
		if err != nil || n > 0 != c.want {
			t.Errorf("%s: %d, %v; want %v", c.name, n, err, c.want)
		}
	}
}

// What is built can be read again, and its checksums are right.
func TestFrames(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1472} {
		b := udpFrame(nodeMAC, srvMAC, ap(node, 68), ap(server, 67), bytes.Repeat([]byte{0xab}, n))
		f, ok := parseFrame(b)
		if !ok || f.src != nodeMAC || f.dst != srvMAC || f.from != ap(node, 68) || f.to != ap(server, 67) || len(f.payload) != n {
			t.Errorf("%d bytes: %v %+v", n, ok, f)
		}
		ip := b[etherLen:]
		if netboot.Checksum(0, ip[:ipLen]) != 0 || netboot.Checksum(netboot.PseudoSum(unix.IPPROTO_UDP, node, server, len(ip)-ipLen), ip[ipLen:]) != 0 {
			t.Errorf("%d bytes: a checksum is wrong", n)
		}
	}
}

// watchOf plays frames to a watch.
func watchOf(at time.Time, frames ...[]byte) *watch {
	w := newWatch()
	for _, b := range frames {
		w.add(at, b)
	}
	return w
}

// A route with a smaller MTU says so.
func TestTooBig(t *testing.T) {
	data := udpFrame(srvMAC, nodeMAC, ap(server, 40000), ap(node, 2000), make([]byte, 1400))
	e := newExam(Config{})
	e.ifi = loopback(t)
	found := e.diagnose(watchOf(time.Now(), icmpFrame(4, data)), time.Now())
	if !hasID(found, "wire.mtu") {
		t.Errorf("no wire.mtu in %+v", found)
	}
}

// Machines beyond the bound, and steps beyond theirs, are left out.
func TestFloodOnTheWire(t *testing.T) {
	w := newWatch()
	for i := range 3 * maxMachines {
		hw := mac{2, 0, byte(i >> 16), byte(i >> 8), byte(i), 1}
		m, err := dhcpv4.NewDiscovery(hw[:])
		if err != nil {
			t.Fatal(err)
		}
		w.add(time.Now(), udpFrame(hw, srvMAC, ap(netip.IPv4Unspecified(), 68), ap(server, 67), m.ToBytes()))
		w.add(time.Now(), udpFrame(hw, srvMAC, ap(node, uint16(i)), ap(server, 69), []byte("\x00\x01x\x00octet\x00")))
	}
	if len(w.machines) > maxMachines || len(w.tftp) > maxOpen || len(w.order) > maxMachines {
		t.Errorf("%d machines, %d requests", len(w.machines), len(w.tftp))
	}
	m := w.order[0]
	for range 3 * maxSteps1 {
		m.step(time.Now(), "again")
	}
	if len(m.steps) > maxSteps1 {
		t.Errorf("%d steps", len(m.steps))
	}
}

// The doctor doesn't take itself for a machine.
func TestWatchIgnoresTheDoctor(t *testing.T) {
	m, err := dhcpv4.NewDiscovery(netboot.DoctorMAC())
	if err != nil {
		t.Fatal(err)
	}
	w := watchOf(time.Now(), udpFrame(mac(netboot.DoctorMAC()), srvMAC, ap(netip.IPv4Unspecified(), 68), ap(server, 67), m.ToBytes()))
	if len(w.order) != 0 || w.frames != 1 {
		t.Errorf("%d machines of %d frames", len(w.order), w.frames)
	}
}

// SELinux, in a folder that looks like /sys.
func TestSELinux(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"sys/fs/selinux/enforce": "1\n", "proc/self/status": "CapEff:\t0000000000000000\n"} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e := newExam(Config{TFTPRoot: "/home/boot/tftp"})
	e.root = root
	found := e.system()
	if !hasID(found, "system.selinux") || !hasID(found, "system.capability") {
		t.Errorf("found %+v", found)
	}
	e.TFTPRoot = "/var/lib/tftpboot/kamethod"
	if found := e.system(); hasID(found, "system.selinux") {
		t.Errorf("found %+v", found)
	}
}

// The missing module is named with the line that brings it in.
func TestMissingModule(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "lib/modules/6.1.0-56-amd64")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"modules.alias": "alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169\n", "modules.dep": "kernel/drivers/net/ethernet/realtek/r8169.ko.xz: kernel/x.ko\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e := newExam(Config{PCI: []string{"10ec:8168"}})
	e.root = root
	found := e.nics(&stage1{})
	if len(found) != 1 || found[0].ID != "nic.driver" || !strings.Contains(found[0].Do, `"module kernel/drivers/net/ethernet/realtek/r8169"`) || !strings.Contains(found[0].Do, "--modules "+dir) {
		t.Errorf("found %+v", found)
	}
}

// What a terminal would obey isn't printed.
func TestTextIsClean(t *testing.T) {
	r := Report{Node: "52:54:00:77:00:01", Story: []Step{{time.Now(), "asks for \x1b[2J"}}, Findings: []Finding{{"wire.missing", Error, "x", "asks for \x1b]0;owned\a \u0085", "\r\n"}}}
	if strings.ContainsAny(strings.ReplaceAll(r.all(), "\n", ""), "\x1b\a\r\u0085") {
		t.Errorf("%q", r.all())
	}
}

func TestKeys(t *testing.T) {
	a, b := trust.Pin{1}, trust.Pin{2}
	for _, c := range []struct {
		image, golden trust.Pin
		wrong         bool
	}{{a, a, false}, {a, b, true}, {a, trust.Pin{}, true}, {trust.Pin{}, a, true}} {
		if got := keyOf("all.rdz", &stage1{pin: c.image}, c.golden); (len(got) > 0) != c.wrong {
			t.Errorf("image %v, golden %v: %+v", c.image, c.golden, got)
		}
	}
}

func hasID(list []Finding, id string) bool {
	for _, f := range list {
		if f.ID == id {
			return true
		}
	}
	return false
}

// All kinds of machines of which there are few are in one note.
func TestOneNoteOfLoaders(t *testing.T) {
	l := &lab{t: t, tmp: t.TempDir()}
	l.files()
	var notes []Finding
	for _, f := range newExam(Config{Images: l.path("images")}).loaders() {
		if f.ID == "files.loaders" {
			notes = append(notes, f)
		} else {
			t.Errorf("found %+v", f)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0].What, "UEFI arm64 (11)") || strings.Contains(notes[0].What, "(7)") {
		t.Errorf("found %+v", notes)
	}
}

// Beside another DHCP server a machine with Secure Boot needs more than shim.
func TestSecureBootBesideAnother(t *testing.T) {
	for _, c := range []struct {
		dhcp    string
		without string
		want    bool
	}{{netboot.DHCPProxy, "", true}, {netboot.DHCPFull, "", false}, {netboot.DHCPOff, "", false}, {netboot.DHCPProxy, "grubx64.efi", false}, {netboot.DHCPProxy, "shimx64.efi", false}} {
		l := &lab{t: t, tmp: t.TempDir()}
		l.files()
		if c.without != "" {
			l.run("rm", l.path("images/tftp/"+c.without))
		}
		found := newExam(Config{Images: l.path("images"), DHCP: c.dhcp}).files(trust.Pin{})
		if got := hasID(found, "files.secureboot"); got != c.want {
			t.Errorf("%s without %q: %v, want %v: %+v", c.dhcp, c.without, got, c.want, found)
		}
	}
}
