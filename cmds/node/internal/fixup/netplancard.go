package fixup

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/wire"
)

// card binds an interface to the node's card, or to none: without a card it is
// found by its name, which set-name gave it.
func (e *lineEdit) card(p planned, f fate) []string {
	match := yamlField(p.at, "match")
	was := yamlText(match, "macaddress")
	switch {
	case was == "" && f.net != nil && f.mac != "":
		e.remove(p.at, "match")
		return []string{"match:", "  macaddress: \"" + f.mac + "\""}
	case was == "" || strings.EqualFold(was, f.mac):
		return nil
	case f.mac != "" || len(match.Content) > 2:
		anew := []string{"match:"}
		if f.mac != "" {
			anew = append(anew, "  macaddress: \""+f.mac+"\"")
		}
		for i := 0; i+1 < len(match.Content); i += 2 {
			if k := match.Content[i]; k.Value != "macaddress" && match.Content[i+1].Kind == yaml.ScalarNode {
				anew = append(anew, "  "+k.Value+": "+quoteYAML(match.Content[i+1]))
			}
		}
		e.remove(p.at, "match")
		return anew
	}
	e.remove(p.at, "match")
	if set := yamlText(p.at, "set-name"); set != "" {
		e.remove(p.at, "set-name")
		if set != p.id {
			return []string{"match:", "  name: " + set}
		}
		return nil
	}
	return []string{"match:", "  name: \"e*\""}
}

func quoteYAML(n *yaml.Node) string {
	b, err := yaml.Marshal(n)
	if err != nil {
		return `""`
	}
	return strings.TrimSpace(string(b))
}

// remove takes a key out of a mapping, and its lines out of the text.
func (e *lineEdit) remove(m *yaml.Node, key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value != key {
			continue
		}
		for l := m.Content[i].Line; l <= max(m.Content[i].Line, lastLine(m.Content[i+1])); l++ {
			e.drop[l] = true
		}
		m.Content = slices.Delete(m.Content, i, i+2)
		return
	}
}

// lastLine is where a value ends, as far as its parts tell.
func lastLine(n *yaml.Node) int {
	last := n.Line + strings.Count(strings.TrimRight(n.Value, "\n"), "\n")
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// isDefaultRoute: a route to anywhere that says no more than its gateway.
func isDefaultRoute(r *yaml.Node) bool {
	to := yamlText(r, "to")
	return to == "default" || to == "0.0.0.0/0" || to == "::/0" || to == "0/0"
}

// netplanDefault is golden's gateway where it is a route.
func netplanDefault(m *yaml.Node) *yaml.Node {
	routes := yamlField(m, "routes")
	if routes == nil || routes.Kind != yaml.SequenceNode {
		return nil
	}
	for _, r := range routes.Content {
		if isDefaultRoute(r) {
			return yamlField(r, "via")
		}
	}
	return nil
}

// removeDefault takes the default route out, and keeps the others.
func (e *lineEdit) removeDefault(m *yaml.Node) {
	routes := yamlField(m, "routes")
	if routes == nil || routes.Kind != yaml.SequenceNode || !slices.ContainsFunc(routes.Content, isDefaultRoute) {
		return
	}
	if !slices.ContainsFunc(routes.Content, func(r *yaml.Node) bool { return !isDefaultRoute(r) }) {
		e.remove(m, "routes")
		return
	}
	routes.Content = slices.DeleteFunc(routes.Content, func(r *yaml.Node) bool {
		if !isDefaultRoute(r) {
			return false
		}
		for l := r.Line; l <= lastLine(r); l++ {
			e.drop[l] = true
		}
		return true
	})
}

// joinRoutes puts the routes that stay below the new default one: a mapping
// has a key once.
func (e *lineEdit) joinRoutes(m, rest *yaml.Node, anew []string) []string {
	at := slices.Index(anew, "routes:")
	if at < 0 {
		return anew
	}
	b, err := yaml.Marshal(rest)
	if err != nil {
		return anew
	}
	e.remove(m, "routes")
	var lines []string
	for l := range strings.Lines(string(b)) {
		lines = append(lines, "  "+strings.TrimRight(l, "\n"))
	}
	return slices.Insert(anew, at+3, lines...)
}

// netplanLines are an interface's; the default route in the form that all
// versions of netplan know (0.106 has dropped no other, but warns).
func netplanLines(n wire.Network) []string {
	out := []string{"dhcp4: false", "addresses:"}
	for _, a := range append(familyOf(n, true), familyOf(n, false)...) {
		out = append(out, "  - \""+a+"\"")
	}
	if n.Gateway != "" {
		to := "0.0.0.0/0"
		if !isFour(n.Gateway) {
			to = "::/0"
		}
		out = append(out, "routes:", "  - to: \""+to+"\"", "    via: \""+n.Gateway+"\"")
	}
	if len(n.DNS) == 0 && n.Domain == "" {
		return out
	}
	out = append(out, "nameservers:")
	if len(n.DNS) > 0 {
		out = append(out, "  addresses: [\""+strings.Join(n.DNS, "\", \"")+"\"]")
	}
	if n.Domain != "" {
		out = append(out, "  search: [\""+n.Domain+"\"]")
	}
	return out
}

func indent(by int, lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.Repeat(" ", by) + l + "\n")
	}
	return b.String()
}
