package fixup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	maxScanned   = 1 << 20   // bytes: a text file that is longer isn't configuration
	maxBinary    = 16 << 20  // bytes that are looked through at once
	maxLarge     = 512 << 20 // bytes: what is longer (an image of a disk in /boot) isn't looked through
	maxLeftovers = 200       // a golden node called "debian" is named everywhere
	maxDepth     = 32        // folders
)

var errEnough = errors.New("enough leftovers")

// findLeftovers reads /etc, /boot, the EFI partition and the initrds once more
// and reports where golden is still named. It changes nothing and fails for
// nothing: a package's comment may well name the host that it was made on.
func findLeftovers(ctx context.Context, c *clone, rep *StepReport) error {
	s := scan{ctx: ctx, c: c, rep: rep, seek: c.traces()}
	for _, dir := range c.scannedFolders() {
		err := s.walk(dir, 0)
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

// scannedFolders are /etc, /boot, and where an EFI partition is mounted
// elsewhere.
func (c *clone) scannedFolders() []string {
	dirs := []string{"/etc", "/boot"}
	for _, dir := range c.bootFolders() {
		if dir != "/boot" && !strings.HasPrefix(dir, "/boot/") && dir != "/" && c.tree.isDir(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// trace is something that names the golden node.
type trace struct {
	what, text, before, after string

	low  string // text in small letters
	long bool   // nothing else looks like it: looked for in binaries too
}

// traces are all of them that aren't the clone's too.
func (c *clone) traces() []trace {
	var ts []trace
	add := func(what, text, now, before, after string) {
		if text != "" && !strings.EqualFold(text, now) {
			ts = append(ts, trace{what: what, text: text, before: before, after: after, low: strings.ToLower(text), long: len(text) >= 32})
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
	for _, mac := range c.env.Plan.Golden.MACs {
		if !isMAC(mac) || c.env.same() || hasMAC(c.env.MACs, mac) || strings.EqualFold(mac, c.env.MAC) {
			continue
		}
		add("network card", mac, "", alnum+":", alnum+":")
		add("network card", strings.ReplaceAll(mac, ":", "-"), "", "", alnum+"-") // BOOTIF=01-…
		add("network card", strings.ReplaceAll(mac, ":", ""), "", alnum, alnum)
	}
	return ts
}

// scan is one walk over the clone.
type scan struct {
	// config
	ctx  context.Context
	c    *clone
	rep  *StepReport
	seek []trace

	// state
	found []string
	buf   []byte // of pieces
}

func (s *scan) walk(dir string, depth int) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth || s.c.tree.isLink(dir) {
		return nil
	}
	for _, e := range s.c.tree.list(dir) {
		name := path.Join(dir, e.Name())
		if err := s.name(name, e.Name()); err != nil {
			return err
		}
		var err error
		switch {
		case e.IsDir():
			err = s.walk(name, depth+1)
		case e.Type().IsRegular():
			err = s.file(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file looks into one file. One that can't be read is no leftover, but is said.
func (s *scan) file(name string) error {
	if isInitrd(name) {
		return s.initrd(name)
	}
	if strings.EqualFold(path.Ext(name), ".efi") {
		return s.kernelImage(name)
	}
	return s.whole(name)
}

// whole looks through all of a file, as it lies there.
func (s *scan) whole(name string) error {
	f, err := s.c.tree.open(name)
	if err != nil {
		s.rep.warn("%s was not looked through: %v", name, err)
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		s.rep.warn("%s was not looked through: %v", name, err)
		return nil
	case fi.Size() > maxLarge:
		s.rep.warn("%s was not looked through: it has %d bytes", name, fi.Size())
		return nil
	case fi.Size() > maxBinary:
		return s.pieces(name, f)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBinary))
	if err != nil {
		s.rep.warn("%s was not looked through: %v", name, err)
		return nil
	}
	return s.contents(name, b)
}

// pieces looks through what is too long to be read at once, for what can't be
// there by chance. Each piece begins with the end of the one before it.
func (s *scan) pieces(name string, r io.Reader) error {
	const overlap = 512 // bytes: more than any trace has
	if s.buf == nil {
		s.buf = make([]byte, maxBinary) // an initrd has hundreds of such files
	}
	buf, kept := s.buf, 0
	found := map[string]bool{}
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf[kept:])
		b := buf[:kept+n]
		low := lower(b)
		for _, t := range s.seek {
			if !t.long || found[t.text] || !strings.Contains(low, t.low) || indexToken(low, t.low, 0, t.before, t.after) < 0 {
				continue
			}
			found[t.text] = true
			if err := s.add(fmt.Sprintf("%s: golden's %s %s", name, t.what, t.text)); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			s.rep.warn("%s was not looked through to its end: %v", name, err)
			return nil
		}
		kept = copy(buf, b[len(b)-overlap:])
	}
}

// lower is b in small letters, of ASCII: no byte more or less, whatever they are.
func lower(b []byte) string {
	low := make([]byte, len(b))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	return string(low)
}

// contents looks through a text line by line; through what is no text, or more
// than anybody writes, only for what can't be there by chance.
func (s *scan) contents(name string, b []byte) error {
	low := lower(b)
	isText := strings.IndexByte(low, 0) < 0
	sure := !isText || len(b) > maxScanned
	for _, t := range s.seek {
		if !strings.Contains(low, t.low) || sure && !t.long {
			continue
		}
		if !isText {
			if err := s.add(fmt.Sprintf("%s: golden's %s %s", name, t.what, t.text)); err != nil {
				return err
			}
			continue
		}
		if err := s.lines(name, low, t); err != nil {
			return err
		}
	}
	return nil
}

// lines reports every line that has the trace.
func (s *scan) lines(name, low string, t trace) error {
	for at := 0; ; {
		i := indexToken(low, t.low, at, t.before, t.after)
		if i < 0 {
			return nil
		}
		line := strings.Count(low[:i], "\n") + 1
		if err := s.add(fmt.Sprintf("%s:%d: golden's %s %s", name, line, t.what, t.text)); err != nil {
			return err
		}
		end := strings.IndexByte(low[i:], '\n')
		if end < 0 {
			return nil
		}
		at = i + end
	}
}

// name looks at a file's own name.
func (s *scan) name(where, base string) error {
	for _, t := range s.seek {
		if indexToken(base, t.text, 0, t.before, t.after) >= 0 {
			if err := s.add(fmt.Sprintf("%s: name has golden's %s %s", where, t.what, t.text)); err != nil {
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
