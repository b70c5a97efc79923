// Package sessionsfile reads the file of golden-serve sessions: several
// deployments that one golden-serve carries out side by side, and what they
// share. It is YAML that a person writes; its words are the long names of
// command line options. It knows none of these: who sets them tells a wrong one
// by Word.Errorf, with its place.
//
//	dhcp: full                       ─┐
//	deployments:                      │
//	  - session: room1                ├─Parse──▶ File, with every word's line
//	    macs: [52:54:00:00:00:01]     │             or file:line: "word": why
//	    root: /srv/room1             ─┘
package sessionsfile

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a file: a session has 4096 machines at most (roster's MaxMachines),
// and the processes and files of 64 sessions fit one machine.
const (
	maxBytes       = 4 << 20
	maxDeployments = 64
	maxWords       = 200 // of a deployment
	maxMACs        = 4096
	maxValues      = 1000 // of a word
	maxName        = 255  // wire.MaxName
)

// File is what a file says.
type File struct {
	Shared      []Word
	Deployments []Deployment
}

// Deployment is one of the list.
type Deployment struct {
	Session string
	Send    string   // what is sent to receivers; empty: it is a clone
	MACs    []string // of the machines, where they are in the file itself
	Words   []Word   // all others
}

// Word is an option, and where it is.
type Word struct {
	Name   string
	Values []string // one, or those of a list

	file string
	line int
}

// Errorf says what is wrong with the word, and where it is.
func (w Word) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %q: %w", w.file, w.line, clip(w.Name), fmt.Errorf(format, args...))
}

// The words that are ours; all others are options.
const (
	wordDeployments = "deployments"
	wordSession     = "session"
	wordSend        = "send"
	wordMACs        = "macs"
)

// Parse reads a file; its name is for messages.
func Parse(r io.Reader, name string) (File, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return File{}, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxBytes {
		return File{}, fmt.Errorf("read %s: longer than %d bytes", name, maxBytes)
	}
	var doc yaml.Node
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := d.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	p := parser{name: name, sessions: map[string]int{}, macs: map[string]int{}}
	p.document(&doc)
	if d.Decode(new(yaml.Node)) == nil && p.err == nil {
		p.err = fmt.Errorf("%s: has several documents: want one", name)
	}
	if p.err != nil {
		return File{}, p.err
	}
	return p.file, nil
}

// parser keeps the first error, and in which line is what may be there once
// only.
type parser struct {
	name           string
	file           File
	sessions, macs map[string]int
	err            error
}

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s:%d: %q: %s", p.name, n.Line, clip(n.Value), fmt.Sprintf(format, args...))
	}
}

// clip keeps a message short.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

func (p *parser) document(doc *yaml.Node) {
	const want = "want a mapping with deployments:, a list of them"
	if doc.Kind == 0 || len(doc.Content) == 0 {
		p.err = fmt.Errorf("%s: is empty: %s", p.name, want)
		return
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		p.fail(top, want)
		return
	}
	p.mapping(top, func(key, value *yaml.Node) {
		switch key.Value {
		case wordDeployments:
			p.deployments(value)
		case wordSession, wordSend, wordMACs:
			p.fail(key, "is one deployment's: it belongs below %s", wordDeployments)
		default:
			p.file.Shared = append(p.file.Shared, p.word(key, value))
		}
	})
	if p.err == nil && len(p.file.Deployments) == 0 {
		p.err = fmt.Errorf("%s:%d: no %s: %s", p.name, top.Line, wordDeployments, want)
	}
}

// mapping goes through the words of a mapping, of which each is there once.
func (p *parser) mapping(m *yaml.Node, each func(key, value *yaml.Node)) {
	if len(m.Content) > 2*maxWords {
		p.fail(m, "%d words: at most %d", len(m.Content)/2, maxWords)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(m.Content) && p.err == nil; i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			p.fail(key, "want a word")
			return
		}
		p.once(seen, key.Value, key)
		each(key, value)
	}
}

// once fails for what was there already.
func (p *parser) once(have map[string]int, key string, n *yaml.Node) {
	if line := have[key]; line != 0 {
		p.fail(n, "is there twice, first in line %d", line)
	}
	have[key] = n.Line
}

func (p *parser) deployments(list *yaml.Node) {
	if list.Kind != yaml.SequenceNode {
		p.fail(list, "want a list of deployments, each with a session:")
		return
	}
	if len(list.Content) > maxDeployments {
		p.fail(list, "%d deployments: at most %d", len(list.Content), maxDeployments)
	}
	for _, n := range list.Content {
		if p.err != nil {
			return
		}
		p.deployment(n)
	}
}

func (p *parser) deployment(m *yaml.Node) {
	if m.Kind != yaml.MappingNode {
		p.fail(m, "want a deployment: session: NAME, and its options")
		return
	}
	var d Deployment
	var macs *yaml.Node
	p.mapping(m, func(key, value *yaml.Node) {
		switch {
		case key.Value == wordSession:
			d.Session = p.session(value)
		case key.Value == wordSend:
			if d.Send = p.text(value); d.Send == "" || d.Send == "-" {
				p.fail(value, "want a file, a device or a folder to send")
			}
		case key.Value == wordMACs && value.Kind == yaml.SequenceNode:
			macs = key
			d.MACs = p.addresses(value)
		default:
			d.Words = append(d.Words, p.word(key, value))
		}
	})
	if p.err == nil && d.Session == "" {
		p.err = fmt.Errorf("%s:%d: a deployment without session: what is it called?", p.name, m.Line)
	}
	if d.Send != "" && macs != nil {
		p.fail(macs, "receivers are not named: the session's name and the token let them in")
	}
	p.file.Deployments = append(p.file.Deployments, d)
}

func (p *parser) session(v *yaml.Node) string {
	s := p.text(v)
	if s == "" || len(s) > maxName || strings.ContainsFunc(s, notInWord) || strings.ContainsAny(s, "=,") {
		p.fail(v, "want one word of printable letters")
		return ""
	}
	p.once(p.sessions, s, v)
	return s
}

func notInWord(r rune) bool { return r <= ' ' || r > '~' }

// addresses are the machines of a deployment: of one only.
func (p *parser) addresses(list *yaml.Node) (out []string) {
	if len(list.Content) == 0 {
		p.fail(list, "names no machine")
	}
	if len(list.Content) > maxMACs {
		p.fail(list, "%d machines: at most %d", len(list.Content), maxMACs)
		return nil
	}
	for _, v := range list.Content {
		hw, err := net.ParseMAC(p.text(v))
		if err != nil || len(hw) != 6 {
			p.fail(v, "want a network card's address, six pairs of hexadecimal digits")
			return nil
		}
		if hw[0]&1 != 0 || hw.String() == "00:00:00:00:00:00" { // IEEE 802-2014, 8.2.2
			p.fail(v, "is no single network card's address")
		}
		p.once(p.macs, hw.String(), v)
		out = append(out, hw.String())
	}
	return out
}

// word is an option with one value, or with several.
func (p *parser) word(key, value *yaml.Node) Word {
	w := Word{Name: key.Value, file: p.name, line: key.Line}
	switch value.Kind {
	case yaml.SequenceNode:
		if len(value.Content) == 0 || len(value.Content) > maxValues {
			p.fail(key, "%d values: want 1 to %d", len(value.Content), maxValues)
			return w
		}
		for _, v := range value.Content {
			w.Values = append(w.Values, p.text(v))
		}
	default:
		w.Values = []string{p.text(value)}
	}
	return w
}

// text is a value that is one word or line.
func (p *parser) text(v *yaml.Node) string {
	if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
		p.fail(v, "want one value")
		return ""
	}
	if strings.ContainsAny(v.Value, "\x00\n") {
		p.fail(v, "want one line")
	}
	return v.Value
}
