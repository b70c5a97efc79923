package nodesfile

import (
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/kamethod/kamethod/templates"
)

// maxAppend leaves room for our own words on a command line of 2048 bytes
// (x86, COMMAND_LINE_SIZE).
const maxAppend = 512

// Local says whether a machine is to boot its disk, whatever is cloned.
func (n Node) Local() bool { return n.Label == templates.LabelLocal }

// Words are the kernel words of a machine but node_id.
func (n Node) Words() []string {
	if n.Local() {
		return nil
	}
	return append(templates.LabelWords(n.Label, n.Server, n.Directory), strings.Fields(n.Append)...)
}

// Cloned says whether what a machine boots clones it: not so local, nor the
// rescue system by nfs, http or ftp without a method.
func (n Node) Cloned() bool {
	p, _ := wire.ParseCmdline(strings.Join(n.Words(), " "))
	return p.Clones()
}

// Rescue says whether a machine boots the rescue system, and nothing else.
func (n Node) Rescue() bool { return templates.NeedsServer(n.Label) && !n.Cloned() }

// booted takes a word that says what a machine boots.
func (p *parser) booted(n *Node, key, value *yaml.Node) {
	s := p.text(value)
	switch key.Value {
	case "label":
		if n.Label = s; !templates.IsLabel(s) {
			p.fail(value, "no such label: want %s (what is only for people is a note)", strings.Join(templates.Labels(), ", "))
		}
	case "server":
		n.Server = p.item(value, "server:"+s)
	case "directory":
		n.Directory = p.item(value, "directory:"+s)
	case "append":
		n.Append = s
		if err := netboot.CheckWords(s); err != nil || len(s) > maxAppend {
			p.fail(value, "want kernel words, %d characters of ASCII at most, none of which a boot loader would take for its own", maxAppend)
		}
		if _, errs := wire.ParseCmdline(s); len(errs) > 0 {
			p.fail(value, "%v", errs[0])
		}
	}
}

// item takes what becomes one item of automatic=, if stage 1 will.
func (p *parser) item(value *yaml.Node, item string) string {
	_, errs := wire.ParseCmdline("automatic=" + item)
	if strings.ContainsAny(item, " \t,\"'#|&${}\\;<>") || netboot.CheckWords(item) != nil {
		p.fail(value, "has a character in it that can't be on a boot line")
	} else if len(errs) > 0 {
		p.fail(value, "%v", errs[0])
	}
	_, s, _ := strings.Cut(item, ":")
	return s
}

// network is the network that all addresses of the file are in.
func (p *parser) network(v *yaml.Node) {
	n, err := netip.ParsePrefix(p.text(v))
	if err != nil || !n.Addr().Is4() || n.Masked() != n {
		p.fail(v, "want a network, as 10.0.1.0/24")
		return
	}
	if len(p.networks) > 0 && !p.inside(n.Addr()) {
		p.fail(v, "is another network than %s", joined(p.networks))
	}
	p.networks = []netip.Prefix{n}
}

// inside says whether an address may be there. Networks are IPv4's.
func (p *parser) inside(a netip.Addr) bool {
	return len(p.networks) == 0 || !a.Is4() || slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

func joined(list []netip.Prefix) string {
	var out []string
	for _, n := range list {
		out = append(out, n.String())
	}
	return strings.Join(out, ", ")
}
