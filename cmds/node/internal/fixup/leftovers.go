package fixup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
)

const (
	maxScanned   = 1 << 20 // bytes: a text file that is longer isn't configuration
	maxLeftovers = 200     // a golden node called "debian" is named everywhere
	maxDepth     = 32      // folders
)

var errEnough = errors.New("enough leftovers")

// findLeftovers reads /etc and /boot once more and reports where golden is
// still named. It changes nothing and fails for nothing: a package's comment
// may well name the host that it was made on.
func findLeftovers(ctx context.Context, c *clone, rep *StepReport) error {
	s := scan{c: c, seek: c.traces()}
	for _, dir := range []string{"/etc", "/boot"} {
		err := s.walk(ctx, dir, 0)
		if errors.Is(err, errEnough) {
			s.found = append(s.found, fmt.Sprintf("more than %d places", maxLeftovers))
			break
		}
		if err != nil {
			return err
		}
	}
	c.report.Leftovers = s.found
	if len(s.found) > 0 {
		rep.warn("the golden node is still named in %d places, see leftovers", len(s.found))
	}
	return nil
}

// trace is something that names the golden node.
type trace struct{ what, text, before, after string }

// traces are all of them that aren't the clone's too.
func (c *clone) traces() []trace {
	var ts []trace
	add := func(what, text, now, before, after string) {
		if text != "" && !strings.EqualFold(text, now) {
			ts = append(ts, trace{what, text, before, after})
		}
	}
	for _, d := range c.ids {
		add(d.what, d.old, d.now, idEdge(d.old), idEdge(d.old))
	}
	add("machine-id", c.oldMachine, c.tree.firstLine(etcMachineID), alnum, alnum)
	old, _, _ := strings.Cut(c.oldHost, ".")
	now, _, _ := strings.Cut(c.host, ".")
	if old != "localhost" {
		add("host name", old, now, nameBefore, nameAfter)
	}
	return ts
}

// scan is one walk over the clone.
type scan struct {
	// config
	c    *clone
	seek []trace

	// state
	found []string
}

func (s *scan) walk(ctx context.Context, dir string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth || s.c.tree.isLink(dir) {
		return nil
	}
	for _, e := range s.c.tree.list(dir) {
		name := path.Join(dir, e.Name())
		if err := s.match(name+": name has", e.Name()); err != nil {
			return err
		}
		var err error
		switch {
		case e.IsDir():
			err = s.walk(ctx, name, depth+1)
		case e.Type().IsRegular():
			err = s.file(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) file(name string) error {
	fi, err := s.c.tree.stat(name)
	if err != nil || fi.Size() > maxScanned {
		return nil
	}
	b, err := s.c.tree.read(name)
	if err != nil {
		return nil
	}
	text := string(b)
	if strings.IndexByte(text, 0) >= 0 { // not a text
		return nil
	}
	for _, t := range s.seek {
		for at := 0; ; {
			i := indexToken(text, t.text, at, t.before, t.after)
			if i < 0 {
				break
			}
			line := strings.Count(text[:i], "\n") + 1
			if err := s.add(fmt.Sprintf("%s:%d: golden's %s %s", name, line, t.what, t.text)); err != nil {
				return err
			}
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				break
			}
			at = i + end
		}
	}
	return nil
}

// match looks at one short text.
func (s *scan) match(where, text string) error {
	for _, t := range s.seek {
		if indexToken(text, t.text, 0, t.before, t.after) >= 0 {
			if err := s.add(fmt.Sprintf("%s golden's %s %s", where, t.what, t.text)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scan) add(what string) error {
	if len(s.found) >= maxLeftovers {
		return errEnough
	}
	s.found = append(s.found, what)
	return nil
}
