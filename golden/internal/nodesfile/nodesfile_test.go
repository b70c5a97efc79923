package nodesfile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kamethod/kamethod/golden/wire"
)

func same(a, b any) string {
	return cmp.Diff(a, b, cmpopts.IgnoreUnexported(Node{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

func TestParse(t *testing.T) {
	const text = `# the room upstairs
- mac: 52-54-00-00-00-0A
  name: alpha
  address: 10.0.0.7/24
  gateway: 10.0.0.254
  dns: 10.0.0.253
  domain: lab.example
  note: "rack 1"
  label: http
  server: 10.0.0.253
  directory: /cs4
  append: kamethod kaopt=upstairs
- {mac: "52:54:00:00:00:0b", node_id: 1, addresses: [10.0.0.8/24, "fd00::8/64"], dns: [10.0.0.253, "fd00::1"]}
- mac: 52:54:00:00:00:0c
`
	want := []Node{
		{MAC: "52:54:00:00:00:0a", Name: "alpha", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/24")}, Gateway: netip.MustParseAddr("10.0.0.254"),
			DNS: []netip.Addr{netip.MustParseAddr("10.0.0.253")}, Domain: "lab.example", Note: "rack 1", Number: 2,
			Label: "http", Server: "10.0.0.253", Directory: "/cs4", Append: "kamethod kaopt=upstairs"},
		{MAC: "52:54:00:00:00:0b", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.8/24"), netip.MustParsePrefix("fd00::8/64")},
			DNS: []netip.Addr{netip.MustParseAddr("10.0.0.253"), netip.MustParseAddr("fd00::1")}, Number: 1},
		{MAC: "52:54:00:00:00:0c", Number: 3},
	}
	for _, s := range []string{text, "nodes:\n  " + strings.ReplaceAll(text, "\n", "\n  ")} {
		got, err := Parse(strings.NewReader(s), "nodes.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if d := same(want, got); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const a = "- mac: 52:54:00:00:00:01\n"
	const b = "- mac: 52:54:00:00:00:02\n"
	for _, tt := range []struct{ text, want string }{
		{"", "n: names no machine"},
		{"[]", "n: names no machine"},
		{"mac: 1", `n:1: "mac": no such word before the machines`},
		{"network: 10.0.0.0/8", `want a list`},
		{"1", `n:1: "1": want a list`},
		{"nodes: 1", `n:1: "1": want a list`},
		{"nodes: []", "n: names no machine"},
		{"nodes:", "n: names no machine"},
		{"# nobody yet", "n: names no machine"},
		{"network: 10.0.0.7/24\nnodes: []", `n:1: "10.0.0.7/24": want a network`},
		{"label: locale\nnodes: []", `n:1: "locale": no such label: want local, kamethod, dolly, nfs, http, ftp`},
		{"network: 10.0.0.0/24\nnodes:\n" + a + "  address: [\"fd00::1/64\", 10.0.1.1/24]", `n:4: "10.0.1.1/24": is outside of the network 10.0.0.0/24`},
		{a + "  label: rack 1", `n:2: "rack 1": no such label`},
		{a + "  server: \"a,method:ka\"", `n:2: "a,method:ka": has a character`},
		{a + "  server: a b", "has a character"},
		{a + "  server: ../", "has the character '/'"},
		{a + "  directory: cs4", `n:2: "cs4": `},
		{a + "  directory: /a,b", "has a character"},
		{a + "  append: node_id=x", `n:2: "node_id=x": kernel parameter "node_id=x"`},
		{a + "  append: \"a\\nLABEL x\"", "want kernel words"},
		{a + "  append: a || b", "want kernel words"},
		{"- x", `n:1: "x": want a machine`},
		{"- name: a", "n:1: a machine without mac"},
		{"- mac: 52:54:00", `n:1: "52:54:00": want a network card's`},
		{"- mac: ff:ff:ff:ff:ff:ff", "no single network card's"},
		{a + "- mac: 52-54-00-00-00-01", `n:2: "52-54-00-00-00-01": is there twice, first in line 1`},
		{a + "  name: x\n" + b + "  name: X", `n:4: "X": is there twice, first in line 2`},
		{a + "  address: 10.0.0.1/24\n" + b + "  address: [10.0.1.1/24, 10.0.0.1/8]", `n:4: "10.0.0.1/8": is there twice, first in line 2`},
		{a + "  node_id: 4\n" + b + "  node_id: 4", `n:4: "4": is there twice`},
		{a + "  node_id: 0", `"0": want a number from 1`},
		{a + "  node_id: x", `"x": want a number from 1`},
		{a + "  name: a_b", `n:2: "a_b": want letters`},
		{a + "  name: ''", "want letters"},
		{a + "  name:", "want one value"},
		{a + "  name: [a]", "want one value"},
		{a + "  name: a\n  name: b", `n:3: "name": is there twice`},
		{a + "  nane: a", `n:2: "nane": no such word`},
		{a + "  address: 10.0.0.1", "prefix length"},
		{a + "  address: 10.0.0.0/24", "the network itself"},
		{a + "  address: 10.0.0.255/24", "the network itself"},
		{a + "  address: 127.0.0.1/8", "no machine's"},
		{a + "  address: 10.0.0.1/24\n  gateway: 10.0.1.1", `"10.0.1.1": no address of the machine`},
		{a + "  gateway: 10.0.1.1", "no address of the machine"},
		{a + "  address: 10.0.0.1/24\n  gateway: 10.0.0.1", "the machine itself"},
		{a + "  dns: none", `n:2: "none": want an address`},
		{a + "  note: \"a\\u0007\"", "printable"},
		{a + "---\n" + b, "several documents"},
		{"- &a {mac: 52:54:00:00:00:01}\n- *a", "want a machine"},
		{"a: [", "n: yaml:"},
	} {
		_, err := Parse(strings.NewReader(tt.text), "n")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.text, err, tt.want)
		}
	}
	for _, n := range []string{"10.0.0.0/24", "10.0.0.0/8"} {
		_, err := ParseWithin(strings.NewReader("nodes:\n"+a+"  address: 10.0.1.1/24\n"), "n", []netip.Prefix{netip.MustParsePrefix(n)})
		if (err == nil) != (n == "10.0.0.0/8") {
			t.Errorf("within %s: %v", n, err)
		}
	}
	var many strings.Builder
	for i := range maxNodes + 1 {
		fmt.Fprintf(&many, "- mac: 52:54:00:00:%02x:%02x\n", i>>8, i&255)
	}
	if _, err := Parse(strings.NewReader(many.String()), "n"); err == nil || !strings.Contains(err.Error(), "at most 4096") {
		t.Errorf("too many: %v", err)
	}
	if _, err := Parse(strings.NewReader(strings.Repeat("#", maxBytes+1)), "n"); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("too long: %v", err)
	}
}

// FuzzParse: what passes has each thing once, and everybody has a number.
func FuzzParse(f *testing.F) {
	f.Add("- mac: 52:54:00:00:00:01\n  name: a\n  address: 10.0.0.1/24\n  gateway: 10.0.0.2\n")
	f.Add("network: 10.0.0.0/8\nserver: a\ndirectory: /b\nappend: c\nnodes:\n- {mac: 52-54-00-00-00-01, node_id: 2, dns: [fd00::1], domain: a.b, label: nfs, note: x}\n- mac: 52:54:00:00:00:02\n")
	f.Add("- &a {mac: 52:54:00:00:00:01, <<: *a}\n")
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := Parse(strings.NewReader(text), "n")
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, n := range nodes {
			keys := []string{"mac " + n.MAC, fmt.Sprint("number ", n.Number)}
			if n.Name != "" {
				keys = append(keys, "name "+strings.ToLower(n.Name))
			}
			for _, a := range n.Addresses {
				keys = append(keys, "address "+a.Addr().String())
			}
			for _, k := range keys {
				if seen[k] {
					t.Fatalf("%s twice of %q", k, text)
				}
				seen[k] = true
			}
			words := strings.Join(n.Words(), " ")
			if _, errs := wire.ParseCmdline(words); len(errs) > 0 || strings.ContainsFunc(words, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%v: words %q of %q", errs, words, text)
			}
			if len(n.MAC) != 17 || n.Number < 1 || strings.ContainsAny(n.Name+n.Domain, " \n/'\"$") {
				t.Fatalf("%+v of %q", n, text)
			}
		}
	})
}

func TestWords(t *testing.T) {
	const text = "label: nfs\nserver: 10.0.0.2\nnodes:\n" +
		"- {mac: 52:54:00:00:00:01}\n" +
		"- {mac: 52:54:00:00:00:02, label: local}\n" +
		"- {mac: 52:54:00:00:00:03, label: kamethod, append: ka.shell}\n" +
		"- {mac: 52:54:00:00:00:04, directory: /cs4, append: kamethod}\n"
	nodes, err := Parse(strings.NewReader(text), "n")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		words         string
		local, cloned bool
	}{
		{"automatic=method:nfs,interface:auto,network:dhcp,server:10.0.0.2 rw rescue", false, false},
		{"", true, false},
		{"automatic=method:ka,interface:auto,network:dhcp rw kamethod ka.shell", false, true},
		{"automatic=method:nfs,interface:auto,network:dhcp,server:10.0.0.2,directory:/cs4 rw rescue kamethod", false, true},
	} {
		n := nodes[i]
		if got := strings.Join(n.Words(), " "); got != want.words || n.Local() != want.local || n.Cloned() != want.cloned {
			t.Errorf("%+v: %q, local %v, cloned %v, want %+v", n, got, n.Local(), n.Cloned(), want)
		}
	}
}
