// Package nodesfile reads the list of the machines that a session clones to,
// and who each of them becomes: its number, name and addresses. It is a YAML
// file that a person writes. It decides nothing: who is let in is package
// roster's, what a clone's files say is the node's.
//
//   - mac: 52:54:00:00:00:07 ─┐
//     name: alpha              ├─Parse──▶ []Node, each with a number
//     address: 10.0.0.7/24     │             or file:line: "word": why
//     gateway: 10.0.0.254     ─┘
package nodesfile

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a file: as many machines as a session may have (roster's
// MaxMachines), with a kilobyte each.
const (
	maxBytes  = 4 << 20
	maxNodes  = 4096
	maxNumber = 1 << 20 // wire's for node_id=
	maxList   = 16      // addresses or name servers of one machine
	maxLabel  = 255
)

// Node is a machine, and who it becomes.
type Node struct {
	MAC       string         // six pairs of small hexadecimal digits, with colons
	Name      string         // empty: by the template
	Addresses []netip.Prefix // none: golden's way, without what is golden's alone
	Gateway   netip.Addr     // zero: none
	DNS       []netip.Addr
	Domain    string
	Number    int    // node_id, or the smallest that is free, in the file's order
	Label     string // kept, for people

	line int
}

// Parse reads a file; its name is for messages.
func Parse(r io.Reader, name string) ([]Node, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxBytes {
		return nil, fmt.Errorf("read %s: longer than %d bytes", name, maxBytes)
	}
	var doc yaml.Node
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := d.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := parser{name: name, macs: map[string]int{}, names: map[string]int{}, addrs: map[netip.Addr]int{}, numbers: map[int]int{}}
	p.document(&doc)
	if d.Decode(new(yaml.Node)) == nil && p.err == nil {
		p.err = fmt.Errorf("%s: has several documents: want one list", name)
	}
	if p.err != nil {
		return nil, p.err
	}
	p.number()
	return p.nodes, nil
}

// parser keeps the first error, and where everything was that may be there
// once only.
type parser struct {
	name    string
	nodes   []Node
	macs    map[string]int // lines
	names   map[string]int
	addrs   map[netip.Addr]int
	numbers map[int]int
	err     error
}

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s:%d: %q: %s", p.name, n.Line, clip(n.Value), fmt.Sprintf(format, args...))
	}
}

func clip(s string) string { return s[:min(len(s), 80)] }

// document is a list, or a list below the word nodes.
func (p *parser) document(doc *yaml.Node) {
	if len(doc.Content) == 0 {
		p.err = fmt.Errorf("%s: names no machine", p.name)
		return
	}
	list := doc.Content[0]
	if list.Kind == yaml.MappingNode && len(list.Content) == 2 && list.Content[0].Value == "nodes" {
		list = list.Content[1]
	}
	if list.Kind != yaml.SequenceNode {
		p.fail(list, "want a list of machines, each with mac: and what it becomes")
		return
	}
	if len(list.Content) == 0 {
		p.err = fmt.Errorf("%s: names no machine", p.name)
	}
	if len(list.Content) > maxNodes {
		p.err = fmt.Errorf("%s: %d machines, at most %d", p.name, len(list.Content), maxNodes)
	}
	for _, n := range list.Content {
		if p.err != nil {
			return
		}
		p.node(n)
	}
}

func (p *parser) node(m *yaml.Node) {
	if m.Kind != yaml.MappingNode {
		p.fail(m, "want a machine: mac: 52:54:00:00:00:01, and what it becomes")
		return
	}
	n := Node{line: m.Line}
	seen := map[string]bool{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if seen[key.Value] {
			p.fail(key, "is there twice")
		}
		seen[key.Value] = true
		p.field(&n, key, value)
	}
	if n.MAC == "" && p.err == nil {
		p.err = fmt.Errorf("%s:%d: a machine without mac: which one is meant?", p.name, m.Line)
	}
	p.gateway(n, m)
	p.nodes = append(p.nodes, n)
}

func (p *parser) field(n *Node, key, value *yaml.Node) {
	switch key.Value {
	case "mac":
		n.MAC = p.mac(value)
	case "name":
		n.Name = p.hostname(value, maxHost)
		p.once(p.names, strings.ToLower(n.Name), value)
	case "address", "addresses":
		p.addresses(n, value)
	case "gateway":
		n.Gateway = p.addr(value)
	case "dns":
		for _, v := range p.list(value) {
			n.DNS = append(n.DNS, p.addr(v))
		}
	case "domain":
		n.Domain = p.hostname(value, maxDomain)
	case "node_id":
		n.Number = p.nodeID(value)
	case "label":
		if n.Label = p.text(value); len(n.Label) > maxLabel || strings.ContainsFunc(n.Label, isControl) {
			p.fail(value, "want at most %d printable bytes", maxLabel)
		}
	default:
		p.fail(key, "no such word: want mac, name, address, gateway, dns, domain, node_id or label")
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// text is a value that is one word or line.
func (p *parser) text(v *yaml.Node) string {
	if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
		p.fail(v, "want one value")
		return ""
	}
	return v.Value
}

// list is one value or several.
func (p *parser) list(v *yaml.Node) []*yaml.Node {
	if v.Kind != yaml.SequenceNode {
		return []*yaml.Node{v}
	}
	if len(v.Content) > maxList {
		p.fail(v, "%d of them: at most %d", len(v.Content), maxList)
		return nil
	}
	return v.Content
}

func (p *parser) mac(v *yaml.Node) string {
	hw, err := net.ParseMAC(p.text(v))
	if err != nil || len(hw) != 6 {
		p.fail(v, "want a network card's address, six pairs of hexadecimal digits")
		return ""
	}
	if hw[0]&1 != 0 || hw.String() == "00:00:00:00:00:00" { // IEEE 802-2014, 8.2.2
		p.fail(v, "is no single network card's address")
	}
	p.once(p.macs, hw.String(), v)
	return hw.String()
}

// once fails for what another machine has.
func (p *parser) once(have map[string]int, key string, v *yaml.Node) {
	if key == "" {
		return
	}
	if line := have[key]; line != 0 {
		p.fail(v, "is there twice, first in line %d", line)
	}
	have[key] = v.Line
}

// Longest names: HOST_NAME_MAX of Linux, and RFC 1035, 2.3.4.
const (
	maxHost   = 64
	maxDomain = 253
)

// hostname: letters, digits and inner hyphens between dots (RFC 1123, 2.1).
func (p *parser) hostname(v *yaml.Node, most int) string {
	s := p.text(v)
	bad := s == "" || len(s) > most
	for label := range strings.SplitSeq(s, ".") {
		bad = bad || label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notInName)
	}
	if bad {
		p.fail(v, "want letters, digits and inner hyphens between dots, at most %d", most)
	}
	return s
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
}

func (p *parser) addresses(n *Node, v *yaml.Node) {
	if len(n.Addresses) > 0 {
		p.fail(v, "address and addresses: one of the two")
	}
	for _, a := range p.list(v) {
		q, err := netip.ParsePrefix(p.text(a))
		switch {
		case err != nil:
			p.fail(a, "want an address with its prefix length, as 10.0.0.7/24")
			continue
		case q.Addr().Zone() != "" || q.Addr().IsUnspecified() || q.Addr().IsMulticast() || q.Addr().IsLoopback():
			p.fail(a, "is no machine's address")
		case q.Addr().Is4() && q.Bits() < 31 && (q.Addr() == q.Masked().Addr() || q.Addr() == last(q)):
			p.fail(a, "is the network itself, or all of it")
		}
		if line := p.addrs[q.Addr()]; line != 0 {
			p.fail(a, "is there twice, first in line %d", line)
		}
		p.addrs[q.Addr()] = a.Line
		n.Addresses = append(n.Addresses, q)
	}
}

// last is the broadcast address of an IPv4 network.
func last(q netip.Prefix) netip.Addr {
	b := q.Addr().As4()
	for i := q.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

func (p *parser) addr(v *yaml.Node) netip.Addr {
	a, err := netip.ParseAddr(p.text(v))
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		p.fail(v, "want an address")
	}
	return a
}

// gateway has to be reached, and to be somebody else.
func (p *parser) gateway(n Node, m *yaml.Node) {
	if !n.Gateway.IsValid() || p.err != nil {
		return
	}
	reached := false
	for _, q := range n.Addresses {
		reached = reached || q.Contains(n.Gateway)
		if q.Addr() == n.Gateway {
			p.err = fmt.Errorf("%s:%d: %q: the gateway is the machine itself", p.name, m.Line, n.Gateway)
		}
	}
	if !reached && p.err == nil {
		p.err = fmt.Errorf("%s:%d: %q: no address of the machine is in the gateway's network", p.name, m.Line, n.Gateway)
	}
}

func (p *parser) nodeID(v *yaml.Node) int {
	s := p.text(v)
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxNumber {
		p.fail(v, "want a number from 1 to %d", maxNumber)
		return 0
	}
	if line := p.numbers[n]; line != 0 {
		p.fail(v, "is there twice, first in line %d", line)
	}
	p.numbers[n] = v.Line
	return n
}

// number gives a number to those that have none.
func (p *parser) number() {
	next := 1
	for i := range p.nodes {
		if p.nodes[i].Number != 0 {
			continue
		}
		for p.numbers[next] != 0 {
			next++
		}
		p.numbers[next] = p.nodes[i].line
		p.nodes[i].Number = next
	}
}
