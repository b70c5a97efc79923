package fixup

import (
	"bytes"
	"io/fs"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/wire"
)

// netplanDialect is Ubuntu's, netplan-yaml(5).
func netplanDialect() dialect {
	return dialect{name: "netplan", files: []string{"/etc/netplan/*.yaml"}, parse: parseNetplan, rewrite: rewriteNetplan,
		fresh: func(n wire.Network, _ string) (string, string, fs.FileMode) {
			mac := strings.ToLower(n.MAC)
			id := "kamethod-" + strings.ReplaceAll(mac, ":", "")
			return "/etc/netplan/90-" + id + ".yaml", "network:\n  version: 2\n  ethernets:\n    " + id + ":\n" +
				"      match:\n        macaddress: \"" + mac + "\"\n" + indent(6, netplanLines(n)), 0o600
		}}
}

// planned is one interface in a netplan file.
type planned struct {
	kind, id string
	at       *yaml.Node // its mapping
}

// netplanItems lists the interfaces of a document that is one of netplan's.
func netplanItems(doc *yaml.Node) []planned {
	var out []planned
	if len(doc.Content) != 1 {
		return nil
	}
	network := yamlField(doc.Content[0], "network")
	for _, kind := range []string{"ethernets", "wifis", "bonds", "bridges", "vlans"} {
		m := yamlField(network, kind)
		if m == nil || m.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i+1 < len(m.Content); i += 2 {
			if v := m.Content[i+1]; v.Kind == yaml.MappingNode {
				out = append(out, planned{kind: kind, id: m.Content[i].Value, at: v})
			}
		}
	}
	return out
}

// yamlField is the value of a key, or nil.
func yamlField(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

func yamlText(m *yaml.Node, key string) string {
	if v := yamlField(m, key); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}

func parseNetplan(_, text string) []wired {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil {
		return nil
	}
	var out []wired
	for _, p := range netplanItems(&doc) {
		match := yamlField(p.at, "match")
		w := wired{id: p.kind + " " + p.id, name: p.id, plain: p.kind == "ethernets", mac: yamlText(match, "macaddress")}
		switch set := yamlText(p.at, "set-name"); {
		case set != "":
			w.name = set
		case match != nil:
			w.name = yamlText(match, "name")
		}
		w.leave = w.name == "lo"
		for _, a := range netplanAddresses(p.at) {
			if q, ok := prefixOf(a, ""); ok {
				w.fixed = append(w.fixed, q)
			}
		}
		out = append(out, w)
	}
	return out
}

// netplanAddresses are those of an interface; one may have options below it.
func netplanAddresses(m *yaml.Node) []string {
	list := yamlField(m, "addresses")
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	var out []string
	for _, a := range list.Content {
		switch {
		case a.Kind == yaml.ScalarNode:
			out = append(out, a.Value)
		case a.Kind == yaml.MappingNode && len(a.Content) > 0:
			out = append(out, a.Content[0].Value)
		}
	}
	return out
}

// rewriteNetplan changes the lines that it has to, and no others. Where that
// doesn't make the document that is wanted (a mapping in braces), the whole
// file is written as the library writes it.
func rewriteNetplan(_, text string, f fates) (string, bool) {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil {
		return text, false
	}
	e := lineEdit{lines: strings.SplitAfter(text, "\n"), drop: map[int]bool{}, add: map[int]string{}}
	changed := false
	for _, p := range netplanItems(&doc) {
		if x, ok := f[p.kind+" "+p.id]; ok {
			changed = e.item(p, x) || changed
		}
	}
	if !changed {
		return text, false
	}
	byLine := e.text()
	if sameYAML(byLine, &doc) {
		return byLine, false
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if enc.Encode(&doc) != nil {
		return text, false
	}
	return b.String(), false
}

func sameYAML(text string, doc *yaml.Node) bool {
	var a, b any
	return yaml.Unmarshal([]byte(text), &a) == nil && doc.Decode(&b) == nil && reflect.DeepEqual(a, b)
}

// lineEdit carries out on the lines what is done to the document.
type lineEdit struct {
	lines []string
	drop  map[int]bool   // by line, from 1
	add   map[int]string // before that line
}

func (e *lineEdit) text() string {
	var b strings.Builder
	for i, l := range e.lines {
		b.WriteString(e.add[i+1])
		if !e.drop[i+1] {
			b.WriteString(l)
		}
	}
	if s := e.add[len(e.lines)+1]; s != "" {
		b.WriteString(s)
	}
	return b.String()
}

// item changes one interface, in the document and in the lines.
func (e *lineEdit) item(p planned, f fate) bool {
	before := len(p.at.Content)
	if before == 0 {
		return false
	}
	first, column := p.at.Content[0].Line, p.at.Content[0].Column-1
	var anew []string
	if f.addressed() {
		anew = e.readdress(p.at, f)
	}
	anew = append(anew, e.card(p, f)...)
	if isMAC(yamlText(p.at, "macaddress")) { // sets it, on every clone the same
		e.remove(p.at, "macaddress")
	}
	changed := len(anew) > 0 || len(p.at.Content) != before
	if len(anew) == 0 && len(p.at.Content) == 0 { // "eth0:" alone would be null
		anew = []string{"dhcp4: true"}
	}
	if len(anew) == 0 {
		return changed
	}
	var extra yaml.Node
	if yaml.Unmarshal([]byte(strings.Join(anew, "\n")), &extra) == nil && len(extra.Content) == 1 {
		p.at.Content = append(extra.Content[0].Content, p.at.Content...)
	}
	e.add[first] += indent(column, anew)
	return changed
}

// readdress takes golden's addresses out, and gives the lines that come in
// their place.
func (e *lineEdit) readdress(m *yaml.Node, f fate) []string {
	anew := []string{"dhcp4: true"}
	if f.net != nil {
		n := *f.net
		was := yamlField(m, "gateway4")
		if was == nil {
			was = netplanDefault(m)
		}
		if was != nil {
			n = withGateway(n, was.Value, isFour(was.Value))
		}
		anew = netplanLines(n)
		if len(n.DNS) > 0 || n.Domain != "" {
			e.remove(m, "nameservers")
		}
	}
	for _, k := range []string{"addresses", "gateway4", "gateway6", "dhcp4", "dhcp6"} {
		e.remove(m, k)
	}
	e.removeDefault(m)
	if rest := yamlField(m, "routes"); rest != nil {
		return e.joinRoutes(m, rest, anew)
	}
	return anew
}
