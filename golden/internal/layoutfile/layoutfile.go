// Package layoutfile reads and prints the richer description of a machine's
// disks: a YAML file with all of them, what is made of them, and what is on
// what. docs/disks.md has the format. It looks at no device, and what a disk of
// some size makes of it is package layout's; a desc, the manual's description
// of one disk, is layout's too.
//
//	YAML text ──Parse──▶ File {disks, stack, file systems} ──Print──▶ YAML text
//	   └── what is wrong: file:line: "word": why
package layoutfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// maxBytes bounds a layout file: 128 partitions on each of 64 disks.
const maxBytes = 512 << 10

// maxDisks is how many disks a file describes at most.
const maxDisks = 64

// maxKey bounds a name. YAML takes keys of 1024 bytes, and quotes can double
// them.
const maxKey = 400

// File is the disks of a machine, in the file's order; what is made of them;
// and what is on them: first on partitions, disk after disk, then on arrays,
// containers and volumes.
type File struct {
	Disks       []wire.DiskPlan // without boot code
	Stack       layout.Stack
	Filesystems []wire.Filesystem // without what golden's are known by
}

// Parse reads a layout file. The name is the file's, for messages.
func Parse(r io.Reader, name string) (File, error) {
	p := &parser{name: name, devices: map[string]*device{}, mounts: map[string]int{}}
	root, err := p.read(r)
	if err != nil {
		return File{}, err
	}
	p.file(root)
	if p.err != nil {
		return File{}, p.err
	}
	return p.out, nil
}

// parser gathers a File. It goes on after what is wrong, with zeros in the
// place of it, and keeps the first error.
type parser struct {
	name    string
	out     File
	stacked []wire.Filesystem  // on what is made of partitions: they follow the others
	devices map[string]*device // by name: what there is to make something of
	later   []func()           // what needs to know all devices
	mounts  map[string]int     // mount points and their lines
	err     error
}

// device is a partition, a disk without a table, an array, a container or a
// volume.
type device struct {
	kind string
	line int
	used string // by what
}

func (p *parser) fail(line int, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s:%d: "+format, append([]any{p.name, line}, args...)...)
	}
}

// read takes the text apart. It is the only place that meets foreign bytes.
func (p *parser) read(r io.Reader) (*yaml.Node, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: read: %w", p.name, err)
	}
	if len(text) > maxBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes: no layout file", p.name, maxBytes)
	}
	for i, line := range strings.Split(string(text), "\n") {
		bad := func(r rune) bool { return r != '\t' && r != '\r' && unicode.IsControl(r) }
		if !utf8.ValidString(line) || strings.ContainsFunc(line, bad) {
			return nil, fmt.Errorf("%s:%d: %.40q: no text", p.name, i+1, line)
		}
	}
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:1: empty: want disks", p.name)
	} else if err != nil {
		return nil, p.syntax(err, text)
	}
	if err := d.Decode(&more); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document: want one", p.name, max(more.Line, 1))
	} else if !errors.Is(err, io.EOF) {
		return nil, p.syntax(err, text)
	}
	p.plain(doc.Content[0])
	return doc.Content[0], p.err
}

// plain refuses what makes YAML more than text in a tree.
func (p *parser) plain(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode:
		p.fail(n.Line, "*%s: aliases are not for here", n.Value)
		return
	case n.Anchor != "":
		p.fail(n.Line, "&%s: anchors are not for here: a disk can be like another one", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		p.fail(n.Line, "%s: tags are not for here", n.Tag)
	}
	for _, c := range n.Content {
		p.plain(c)
	}
}

// syntax puts the file's name and the line before what the YAML library says.
func (p *parser) syntax(err error, text []byte) error {
	said := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`^line (\d+): (?s:(.*))`).FindStringSubmatch(said); m != nil {
		return fmt.Errorf("%s:%s: %s", p.name, m[1], m[2])
	}
	line := 1
	if m := regexp.MustCompile(`^unknown anchor '(.+)'`).FindStringSubmatch(said); m != nil {
		before, _, _ := bytes.Cut(text, []byte("*"+m[1]))
		line += bytes.Count(before, []byte("\n"))
	}
	return fmt.Errorf("%s:%d: %s", p.name, line, said)
}

// file takes the whole. What is said of a device may come before the device.
func (p *parser) file(root *yaml.Node) {
	f := p.fields(root, "the file", "disks", "raid", "luks", "lvm")
	disks := p.entries(f.need("disks"), "disks", maxDisks)
	if len(disks) == 0 && p.err == nil {
		p.fail(root.Line, "disks: none: want one at least")
	}
	for _, e := range disks {
		p.disk(e)
	}
	for _, e := range p.entries(f.get("raid"), "raid", maxDisks) {
		p.array(e)
	}
	for _, e := range p.entries(f.get("luks"), "luks", maxDisks) {
		p.crypt(e)
	}
	for _, e := range p.entries(f.get("lvm"), "lvm", maxDisks) {
		p.group(e)
	}
	for _, check := range p.later {
		check()
	}
	p.out.Filesystems = append(p.out.Filesystems, p.stacked...)
	if p.err == nil {
		p.checkStack(root.Line)
	}
}

// checkStack leaves to package layout what no line shows by itself.
func (p *parser) checkStack(line int) {
	disks := map[string]layout.Disk{}
	for _, d := range p.out.Disks {
		disks[d.Name] = d.Layout
	}
	if err := p.out.Stack.Valid(disks); err != nil {
		// It begins with the name of what is wrong, or has it after a word.
		for word := range strings.FieldsSeq(err.Error()) {
			if d := p.devices[strings.Trim(word, `":`)]; d != nil {
				line = d.line
				break
			}
		}
		p.fail(line, "%v", err)
	}
}

// fields is a mapping by its keys.
type fields struct {
	p      *parser
	what   string // for messages
	line   int
	values map[string]*yaml.Node
}

// fields takes a mapping that has no keys but these.
func (p *parser) fields(n *yaml.Node, what string, known ...string) fields {
	f := fields{p: p, what: what, values: map[string]*yaml.Node{}}
	if n == nil {
		return f
	}
	f.line = n.Line
	if n.Kind != yaml.MappingNode {
		p.fail(n.Line, "%s: %s: want keys with values: %s", what, describe(n), strings.Join(known, ", "))
		return f
	}
	for _, e := range p.pairs(n, what) {
		if !slices.Contains(known, e.key) {
			p.fail(e.line, "%s: unknown key %q: want %s", what, e.key, strings.Join(known, ", "))
			continue
		}
		f.values[e.key] = e.value
	}
	return f
}

func (f fields) get(key string) *yaml.Node { return f.values[key] }

// need is a value that has to be there.
func (f fields) need(key string) *yaml.Node {
	n := f.values[key]
	if n == nil {
		f.p.fail(f.line, "%s: no %s", f.what, key)
	}
	return n
}

// entry is one key with its value.
type entry struct {
	key   string
	line  int
	value *yaml.Node
}

// entries takes a mapping with keys of the writer's own, in their order.
func (p *parser) entries(n *yaml.Node, what string, most int) []entry {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n.Line, "%s: %s: want names with what they are", what, describe(n))
		return nil
	}
	all := p.pairs(n, what)
	if len(all) > most {
		p.fail(n.Line, "%s: %d of them: want at most %d", what, len(all), most)
		return nil
	}
	return all
}

func (p *parser) pairs(n *yaml.Node, what string) []entry {
	var all []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if p.text(key, what) == "" || len(key.Value) > maxKey {
			p.fail(key.Line, "%s: %.40q: want a name of at most %d bytes", what, key.Value, maxKey)
			continue
		}
		if line, ok := seen[key.Value]; ok {
			p.fail(key.Line, "%s: %s: line %d has it already", what, key.Value, line)
		}
		seen[key.Value] = key.Line
		all = append(all, entry{key.Value, key.Line, n.Content[i+1]})
	}
	return all
}

// text is a scalar. What it means is decided by who asks, not by YAML: "no" is
// a word here, and 1.0 has two digits.
func (p *parser) text(n *yaml.Node, what string) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		p.fail(n.Line, "%s: %s: want a word", what, describe(n))
		return ""
	}
	if len(n.Value) > 1024 || strings.ContainsFunc(n.Value, func(r rune) bool { return !unicode.IsPrint(r) }) {
		p.fail(n.Line, "%s: %.40q: want printable text of at most 1024 bytes", what, n.Value)
		return ""
	}
	return n.Value
}

// list is a sequence of scalars, or one alone.
func (p *parser) list(n *yaml.Node, what string, most int) []string {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return []string{p.text(n, what)}
	}
	if len(n.Content) == 0 || len(n.Content) > most {
		p.fail(n.Line, "%s: %d of them: want 1 to %d", what, len(n.Content), most)
		return nil
	}
	var all []string
	for _, c := range n.Content {
		all = append(all, p.text(c, what))
	}
	return all
}

func (p *parser) flag(n *yaml.Node, what string) bool {
	switch word := p.text(n, what); strings.ToLower(word) {
	case "true", "yes", "on":
		return true
	case "false", "no", "off", "":
	default:
		p.fail(n.Line, "%s: %q: want yes or no", what, word)
	}
	return false
}

// number is a whole number within bounds; 0 where there is none.
func (p *parser) number(n *yaml.Node, what string, least, most int) int {
	word := p.text(n, what)
	if word == "" {
		return 0
	}
	v, err := strconv.ParseUint(word, 10, 31)
	if err != nil || int(v) < least || int(v) > most {
		p.fail(n.Line, "%s: %q: want a number from %d to %d", what, word, least, most)
		return 0
	}
	return int(v)
}

// describe is what a message calls a value that isn't what was wanted.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "{…}"
	case n.Kind == yaml.SequenceNode:
		return "[…]"
	case n.Value == "":
		return "nothing"
	}
	return fmt.Sprintf("%.80q", n.Value)
}
