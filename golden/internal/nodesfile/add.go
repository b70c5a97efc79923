package nodesfile

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Newcomer is a machine that isn't in the file yet.
type Newcomer struct {
	MAC     string
	Label   string
	Comment string // of one line; "" for none
}

// Add puts machines below those of a file, each with the smallest node_id that
// is free and the name of that number; who is in it already is passed over. All
// else in the text stays as it is: where the list is the end of the file, to
// the byte, and otherwise as far as YAML can be written anew.
func Add(text []byte, name string, list []Newcomer, naming func(number int) string) ([]byte, []Node, error) {
	p, err := parse(text, name, nil)
	if err != nil {
		return nil, nil, err
	}
	added, entries := p.newcomers(list, naming)
	if len(added) == 0 {
		return text, nil, nil
	}
	for _, write := range []func([]byte, []*yaml.Node) ([]byte, error){p.atTheEnd, p.anew} {
		out, err := write(text, entries)
		if err == nil {
			err = p.holds(out, added)
		}
		if err == nil {
			return out, added, nil
		}
	}
	return nil, nil, fmt.Errorf("%s: %d machines can't be added to this text: make it a list of block style", name, len(added))
}

// newcomers numbers and names them. A machine without node_id has one by its
// place, so these aren't free either.
func (p *parser) newcomers(list []Newcomer, naming func(int) string) (added []Node, entries []*yaml.Node) {
	next := 1
	for _, m := range list {
		if p.macs[m.MAC] != 0 {
			continue
		}
		p.macs[m.MAC] = -1
		n := Node{MAC: m.MAC, Label: m.Label, Server: p.all.Server, Directory: p.all.Directory, Append: p.all.Append}
		for ; ; next++ {
			n.Name = naming(next)
			if p.numbers[next] == 0 && p.names[strings.ToLower(n.Name)] == 0 || next > 2*maxNodes {
				break
			}
		}
		n.Number = next
		p.numbers[next], p.names[strings.ToLower(n.Name)] = -1, -1
		added = append(added, n)
		entries = append(entries, entry(n, m.Comment))
	}
	return added, entries
}

// entry is a machine as the file has it.
func entry(n Node, comment string) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	word := func(key, value, tag string) *yaml.Node {
		v := &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
		m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, v)
		return v
	}
	mac := word("mac", n.MAC, "!!str")
	if comment = oneLine(comment); comment != "" {
		mac.LineComment = "# " + comment
	}
	word("name", n.Name, "!!str")
	word("node_id", fmt.Sprint(n.Number), "!!int")
	if n.Label != "" {
		word("label", n.Label, "!!str")
	}
	return m
}

func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, clip(s)))
}

var errNotLast = errors.New("the list of machines isn't the end of the file")

// atTheEnd writes the entries behind the text, as deep as the list is.
func (p *parser) atTheEnd(text []byte, entries []*yaml.Node) ([]byte, error) {
	deep := 0
	switch list := p.machines; {
	case list == nil: // empty, or comments alone
	case list.Kind == yaml.ScalarNode: // nodes: without a list
		deep = 2
	case list.Style&yaml.FlowStyle != 0 || len(list.Content) == 0:
		return nil, errNotLast
	default:
		deep = list.Column - 1
	}
	b, err := encode(entries)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(text)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	for line := range strings.Lines(string(b)) {
		out = append(append(out, strings.Repeat(" ", deep)...), line...)
	}
	return out, nil
}

// anew writes the whole text from what was read.
func (p *parser) anew(_ []byte, entries []*yaml.Node) ([]byte, error) {
	if p.machines == nil || p.machines.Kind != yaml.SequenceNode {
		return nil, errNotLast
	}
	p.machines.Content = append(p.machines.Content, entries...)
	p.machines.Style &^= yaml.FlowStyle
	// A list of several lines has no place for what stood behind the bracket.
	if c := p.machines.LineComment; c != "" {
		p.machines.HeadComment, p.machines.LineComment = strings.TrimPrefix(p.machines.HeadComment+"\n"+c, "\n"), ""
	}
	return encode(&p.doc)
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return b.Bytes(), e.Close()
}

// holds looks whether a text says what the old one did, and the new ones.
func (p *parser) holds(text []byte, added []Node) error {
	q, err := parse(text, p.name, nil)
	if err != nil {
		return err
	}
	want := append(append([]Node{}, p.nodes...), added...)
	if len(q.nodes) != len(want) {
		return fmt.Errorf("%s: %d machines in the new text, want %d", p.name, len(q.nodes), len(want))
	}
	for i, n := range q.nodes {
		n.line, want[i].line = 0, 0
		if !reflect.DeepEqual(n, want[i]) {
			return fmt.Errorf("%s: machine %s would be another in the new text", p.name, want[i].MAC)
		}
	}
	return nil
}
