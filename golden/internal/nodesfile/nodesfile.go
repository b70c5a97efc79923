// Package nodesfile reads the list of the machines that a session clones to,
// who each of them becomes, and what it boots: its number, name, addresses and
// label. It is a YAML file that a person writes; Add puts machines into it. It
// decides nothing: who is let in is package roster's, what a clone's files say
// is the node's.
//
//   - mac: 52:54:00:00:00:07 ─┐
//     name: alpha              ├─Parse──▶ []Node, each with a number
//     address: 10.0.0.7/24     │             or file:line: "word": why
//     label: kamethod         ─┘
package nodesfile

import (
	"bytes"
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
	maxNote   = 255
)

// Node is a machine, and who it becomes.
type Node struct {
	MAC       string         `json:"mac"`                 // six pairs of small hexadecimal digits, with colons
	Name      string         `json:"name,omitempty"`      // empty: by the template
	Addresses []netip.Prefix `json:"addresses,omitempty"` // none: golden's way, without what is golden's alone
	Gateway   netip.Addr     `json:"gateway,omitzero"`    // zero: none
	DNS       []netip.Addr   `json:"dns,omitempty"`
	Domain    string         `json:"domain,omitempty"`
	Number    int            `json:"node_id"`        // or the smallest that is free, in the file's order
	Note      string         `json:"note,omitempty"` // kept, for people

	Label     string `json:"label,omitempty"`     // what it boots, one of templates.Labels; empty: kamethod
	Server    string `json:"server,omitempty"`    // where stage 2 lies, for the labels nfs, http and ftp; empty: where the boot files are
	Directory string `json:"directory,omitempty"` // the same; empty: not said
	Append    string `json:"append,omitempty"`    // further kernel words

	line int
}

// Parse reads a file; its name is for messages.
func Parse(r io.Reader, name string) ([]Node, error) {
	return ParseWithin(r, name, nil)
}

// ParseWithin also wants each IPv4 address in one of these networks; none: in
// any, or in the file's own.
func ParseWithin(r io.Reader, name string, networks []netip.Prefix) ([]Node, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	p, err := parse(text, name, networks)
	if err == nil && len(p.nodes) == 0 {
		err = fmt.Errorf("%s: names no machine", name)
	}
	if err != nil {
		return nil, err
	}
	return p.nodes, nil
}

// parse reads a text, which may name no machine.
func parse(text []byte, name string, networks []netip.Prefix) (*parser, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("read %s: longer than %d bytes", name, maxBytes)
	}
	p := &parser{name: name, networks: networks, macs: map[string]int{}, names: map[string]int{}, addrs: map[netip.Addr]int{}, numbers: map[int]int{}}
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&p.doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.document(&p.doc)
	if p.err == nil && d.Decode(new(yaml.Node)) == nil {
		p.err = fmt.Errorf("%s: has several documents: want one list", name)
	}
	if p.err != nil {
		return nil, p.err
	}
	p.number()
	return p, nil
}

// parser keeps the first error, and where everything was that may be there
// once only.
type parser struct {
	name     string
	networks []netip.Prefix // addresses are in one of these; none: anywhere
	doc      yaml.Node
	machines *yaml.Node // the machines; nil: an empty file
	all      Node       // what the file says of all of them
	nodes    []Node
	macs     map[string]int // lines
	names    map[string]int
	addrs    map[netip.Addr]int
	numbers  map[int]int
	err      error
}

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s:%d: %q: %s", p.name, n.Line, clip(n.Value), fmt.Sprintf(format, args...))
	}
}

func clip(s string) string { return s[:min(len(s), 80)] }

// document is a list, or a list below the word nodes beside words for all of
// its machines.
func (p *parser) document(doc *yaml.Node) {
	if len(doc.Content) == 0 {
		return
	}
	p.machines = doc.Content[0]
	if p.machines.Kind == yaml.MappingNode {
		p.header(p.machines)
	}
	switch {
	case p.err != nil:
		return
	case p.machines.Kind == yaml.ScalarNode && p.machines.Tag == "!!null": // comments alone, or nodes: without a list
		return
	case p.machines.Kind != yaml.SequenceNode:
		p.fail(p.machines, "want a list of machines, each with mac: and what it becomes")
		return
	}
	if len(p.machines.Content) > maxNodes {
		p.err = fmt.Errorf("%s: %d machines, at most %d", p.name, len(p.machines.Content), maxNodes)
	}
	for _, n := range p.machines.Content {
		if p.err != nil {
			return
		}
		p.node(n)
	}
}

// header takes what is said of all machines, and finds the list.
func (p *parser) header(m *yaml.Node) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if seen[key.Value] {
			p.fail(key, "is there twice")
		}
		seen[key.Value] = true
		switch key.Value {
		case "nodes":
			p.machines = value
		case "network":
			p.network(value)
		case "label", "server", "directory", "append":
			p.booted(&p.all, key, value)
		default:
			p.fail(key, "no such word before the machines: want network, label, server, directory, append or nodes")
		}
	}
	if !seen["nodes"] {
		p.fail(m, "want a list of machines, each with mac: and what it becomes, or one below nodes:")
	}
}

func (p *parser) node(m *yaml.Node) {
	if m.Kind != yaml.MappingNode {
		p.fail(m, "want a machine: mac: 52:54:00:00:00:01, and what it becomes")
		return
	}
	n := Node{line: m.Line, Label: p.all.Label, Server: p.all.Server, Directory: p.all.Directory, Append: p.all.Append}
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
	case "note":
		if n.Note = p.text(value); len(n.Note) > maxNote || strings.ContainsFunc(n.Note, isControl) {
			p.fail(value, "want at most %d printable bytes", maxNote)
		}
	case "label", "server", "directory", "append":
		p.booted(n, key, value)
	default:
		p.fail(key, "no such word: want mac, name, address, gateway, dns, domain, node_id, label, server, directory, append or note")
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
		if !p.inside(q.Addr()) {
			p.fail(a, "is outside of the network %s", joined(p.networks))
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
