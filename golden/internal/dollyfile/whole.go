package dollyfile

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// whole checks what only shows at the end.
func (p *parser) whole() error {
	if !p.ended {
		return fmt.Errorf("%s:%d: %q: is missing: the file ends before it", p.name, p.line, "endconfig")
	}
	f := p.file
	need := []string{"infile", "outfile"}
	if f.Plus {
		need = nil
	}
	if !f.Plus && len(f.Copies) == 0 {
		return p.wrong("infile", "is missing: nothing says what is copied (infile and outfile, or iofiles)")
	}
	for _, word := range append(need, "server", "firstclient", "lastclient", "clients") {
		if p.seen[word] == 0 {
			return p.wrong(word, "is missing")
		}
	}
	if want := p.count; len(f.Clients) != want {
		return p.wrongAt(p.seen["clients"], fmt.Sprintf("clients %d", want), "%d names follow", len(f.Clients))
	}
	if err := p.ends(); err != nil {
		return err
	}
	return p.targets()
}

// ends checks the words for the two ends of Dolly's chain. Dolly+ does not
// care, says the manual. Here neither orders the chain.
func (p *parser) ends() error {
	f := p.file
	for _, x := range []struct{ word, name string }{{"firstclient", f.FirstClient}, {"lastclient", f.LastClient}} {
		i := slices.IndexFunc(f.Clients, func(c Client) bool { return strings.EqualFold(c.Name, x.name) })
		switch at := map[string]int{"firstclient": 0, "lastclient": len(f.Clients) - 1}[x.word]; {
		case i == at:
		case f.Plus:
			f.Notes = append(f.Notes, fmt.Sprintf("%s:%d: %s %s: is not that end of the list of clients", p.name, p.seen[x.word], x.word, x.name))
		case i < 0:
			return p.wrongAt(p.seen[x.word], x.name, "%s is none of the clients: the list begins with %s and ends with %s", x.word, f.Clients[0].Name, f.Clients[len(f.Clients)-1].Name)
		default:
			f.Notes = append(f.Notes, fmt.Sprintf("%s:%d: %s %s: is not that end of the list of clients: the chain orders itself", p.name, p.seen[x.word], x.word, x.name))
		}
	}
	return nil
}

// targets refuses two copies to one place, and one that goes nowhere.
func (p *parser) targets() error {
	at := map[string]int{}
	for i := range p.file.Copies {
		c := &p.file.Copies[i]
		if !strings.HasPrefix(c.Out, "/") {
			return p.wrongAt(c.Line, c.Out, "the outfile is on the nodes: want its whole path, from /")
		}
		if slices.Contains(strings.Split(c.Out, "/"), "..") {
			return p.wrongAt(c.Line, c.Out, "want a path without ..")
		}
		c.Out = path.Clean(c.Out)
		if line, twice := at[c.Out]; twice && !p.intoFolder(c) { // several may go into one folder
			return p.wrongAt(c.Line, c.Out, "line %d writes it already", line)
		}
		at[c.Out] = c.Line
	}
	return nil
}

// intoFolder says whether a copy is unpacked into a folder, by its name.
func (p *parser) intoFolder(c *Copy) bool {
	name := path.Base(c.In)
	return c.Cook && (strings.Contains(name, ".tar") || strings.Contains(name, ".cpio") || strings.HasSuffix(name, ".tgz"))
}
