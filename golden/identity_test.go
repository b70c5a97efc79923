package golden

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// writeNodes is a nodes file with three machines, the third without a word.
func writeNodes(t *testing.T) []Named {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nodes.yaml")
	text := "- {mac: " + strings.ToUpper(two) + ", name: beta, address: [10.99.0.22/24, 'fd00::22/64'], gateway: 10.99.0.254, dns: 10.99.0.253, domain: lab, node_id: 7, note: rack 2}\n" +
		"- {mac: '" + one + "', address: 10.5.0.1/24}\n- mac: '" + three + "'\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := ReadNodes(file)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Each machine of a nodes file is told its own plan, whoever comes first, and
// the result says who each has become.
func TestCloneNodesFile(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	list := writeNodes(t)
	l := newLab(t, 2, one, two)
	l.c.Named = list
	l.c.Plan.Identity = wire.Identity{Hostname: "node%02d", Mode: wire.IdentityTemplate, Scrub: []string{wire.ScrubApps}}
	l.c.Plan.Hooks = []wire.Hook{{Name: "a", Content: []byte("#!/bin/sh\n")}}
	l.start()
	a, b := l.machine(one), l.machine(two)
	want := map[string]wire.Identity{
		one: {Hostname: "node01", Mode: wire.IdentityTemplate, Scrub: []string{wire.ScrubApps}, Networks: []wire.Network{{MAC: one, Addresses: []string{"10.5.0.1/24"}}}},
		two: {Hostname: "beta", Mode: wire.IdentityTemplate, Scrub: []string{wire.ScrubApps}, Networks: []wire.Network{{MAC: two, Addresses: []string{"10.99.0.22/24", "fd00::22/64"}, Gateway: "10.99.0.254", DNS: []string{"10.99.0.253"}, Domain: "lab"}}},
	}
	number := map[string]int{one: 1, two: 7}
	together([]*machine{b, a}, func(m *machine) {
		m.intoStage2()
		if m.me.Number != number[m.mac] {
			t.Errorf("%s is node %d, want %d", m.mac, m.me.Number, number[m.mac])
		}
		o := m.next("to prepare", func(o wire.Order) bool { return o.Plan != nil })
		if d := cmp.Diff(want[m.mac], o.Plan.Identity); d != "" || len(o.Plan.Hooks) != 1 {
			t.Errorf("%s: hooks %v, identity (-want +got)\n%s", m.mac, o.Plan.Hooks, d)
		}
		m.report(wire.Report{State: string(status.Ready), Ready: &wire.DiskResult{Disks: []string{"/dev/vda"}}})
		whole, ended := m.receive()
		<-whole
		m.report(wire.Report{State: string(status.Done), Done: &wire.Done{
			HostKeys: []string{"ssh-ed25519 AAAA" + o.Plan.Identity.Hostname + " root@x"}, Leftovers: []string{"/etc/x:1: golden's host name"},
			Steps: []wire.FixStep{{Name: "host-name", Files: []wire.FixFile{{Path: "/etc/hostname", Why: "named"}}}}, MoreFiles: 3,
		}})
		m.wantEnd(ended)
		m.wantRelease()
	})
	l.wantReleased(2)
	for _, n := range l.result.Nodes {
		if n.Hostname != want[n.MAC].Hostname || n.Number != number[n.MAC] || len(n.Steps) != 1 || n.MoreFiles != 3 || len(n.Leftovers) != 1 {
			t.Errorf("result %+v", n)
		}
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	if n, err := KnownHosts(file, l.result); err != nil || n != 2 {
		t.Errorf("known hosts of %d clones, %v", n, err)
	}
	got, err := os.ReadFile(file)
	if d := cmp.Diff("node01,10.5.0.1 ssh-ed25519 AAAAnode01\nbeta,10.99.0.22,fd00::22 ssh-ed25519 AAAAbeta\n", string(got)); err != nil || d != "" {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
}

func TestIdentitySameKeepsTheName(t *testing.T) {
	c := CloneConfig{Named: writeNodes(t), Plan: wire.Plan{Golden: wire.Golden{Hostname: "golden.lab"}, Identity: wire.Identity{Mode: wire.IdentitySame, Hostname: "node%d"}}}
	c.Nodes = 2
	if _, err := Clone(t.Context(), c); err == nil || !strings.Contains(err.Error(), "only one machine") {
		t.Errorf("two machines that stay the same: %v", err)
	}
	if id := c.identity(two, 7); id.Hostname != "golden.lab" || len(id.Networks) > 0 {
		t.Errorf("%+v", id)
	}
}

func TestCheckIdentity(t *testing.T) {
	for _, id := range []wire.Identity{{Mode: "x"}, {Scrub: []string{"x"}}, {Mode: wire.IdentitySame, Scrub: []string{wire.ScrubApps}}} {
		if checkIdentity(id) == nil {
			t.Errorf("%+v is taken", id)
		}
	}
}

// A machine outside the nodes file that had one of its numbers gets another.
func TestNumbersOf(t *testing.T) {
	got := numbersOf(map[string]int{two: 3, "x": 7, "y": 9}, writeNodes(t))
	if d := cmp.Diff(map[string]int{two: 7, one: 1, three: 2, "y": 9}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// Addresses that the network has are leased; others, and what --fixed says
// otherwise, are not.
func TestLeasesOfNodesFile(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	list := writeNodes(t)
	file := filepath.Join(t.TempDir(), "fixed")
	for _, tt := range []struct{ fixed, fails string }{{"52:54:00:00:00:99 10.99.0.9 other\n", ""}, {two + " 10.99.0.23\n", "by the list of nodes"}} {
		if err := os.WriteFile(file, []byte(tt.fixed), 0o644); err != nil {
			t.Fatal(err)
		}
		c := netboot.Config{}
		err := Boot{DHCP: netboot.DHCPFull, Interfaces: []string{"golden0"}, Named: list, Fixed: file}.leases(&c)
		if tt.fails != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%q: %v", tt.fixed, err)
			}
			continue
		}
		want := map[string]netip.Addr{two: netip.MustParseAddr("10.99.0.22"), "52:54:00:00:00:99": netip.MustParseAddr("10.99.0.9")}
		if d := cmp.Diff(want, c.Fixed, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" || c.Names[two] != "beta" {
			t.Errorf("%v, names %v (-want +got)\n%s", err, c.Names, d)
		}
	}
}

func TestReadHooks(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("20-b", "#!/bin/sh\n", 0o755)
	put("10-a", "#!/bin/sh\n", 0o700)
	put("30-c.dpkg-old", "x", 0o755)
	put("README", "x", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	hooks, passed, err := ReadHooks(dir)
	if err != nil || len(hooks) != 2 || hooks[0].Name != "10-a" || hooks[1].Name != "20-b" || len(passed) != 3 {
		t.Errorf("%v, %q, %v", hooks, passed, err)
	}
	if none, _, err := ReadHooks(filepath.Join(dir, "none")); err != nil || none != nil {
		t.Errorf("%v, %v", none, err)
	}
	put("40-large", strings.Repeat("x", wire.MaxHook+1), 0o755)
	if _, _, err := ReadHooks(dir); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a large one: %v", err)
	}
	put("40-large", "", 0o755)
	if _, _, err := ReadHooks(dir); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty one: %v", err)
	}
	big := make([]wire.Hook, 16)
	for i := range big {
		big[i].Content = make([]byte, wire.MaxHook)
	}
	if hooksFit(big) == nil {
		t.Error("16 MiB fit into a message")
	}
}

// Other hosts' lines stay as they are; a machine that is cloned again has its
// new keys only.
func TestKnownHostsStay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "known_hosts")
	r := Result{Nodes: []NodeResult{
		{Hostname: "node1.lab", State: status.Released, HostKeys: []string{"ssh-rsa NEW root@node1", "ssh-ed25519 NEW"}, Fixed: []string{"10.0.0.1"}},
		{Hostname: "node2", State: status.Failed, HostKeys: []string{"ssh-rsa NEVER"}},
		{Hostname: "node3", State: status.Released},
	}}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	const others = "# mine\n@cert-authority *.lab ssh-rsa CA\n|1|abc= ssh-rsa H\nnode10 ssh-rsa A\n"
	if err := os.WriteFile(file, []byte(others+"node1,x ssh-rsa OLD\n10.0.0.1 ssh-rsa OLD"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := KnownHosts(file, r); n != 1 || err != nil {
			t.Errorf("%d clones, %v", n, err)
		}
		got, err := os.ReadFile(file)
		want := others + "node1.lab,node1,10.0.0.1 ssh-rsa NEW\nnode1.lab,node1,10.0.0.1 ssh-ed25519 NEW\n"
		if d := cmp.Diff(want, string(got)); err != nil || d != "" {
			t.Errorf("%v (-want +got)\n%s", err, d)
		}
	}
}
