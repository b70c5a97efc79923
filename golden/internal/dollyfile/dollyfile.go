package dollyfile

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a file: as many machines as a session may have (roster's
// MaxMachines), a few hundred bytes each; and of files to copy, each of which
// is a stream of its own.
const (
	maxBytes   = 1 << 20
	maxClients = 4096
	maxFiles   = 256
	maxName    = 4095 // of a file: PATH_MAX of limits.h, without the zero
	maxHost    = 255  // RFC 1123, section 2.1
)

// File is what a configuration file says.
type File struct {
	Plus        bool // Dolly+'s grammar
	Copies      []Copy
	Server      string
	FirstClient string
	LastClient  string
	Clients     []Client
	Notes       []string // words that were taken and mean nothing here
}

// Copy is one infile and where it goes.
type Copy struct {
	In, Out string
	Cook    bool // ">>": unpacked by the name of the infile
	Packed  bool // "compressed infile": Dolly decompresses it, whatever it is called
	Line    int
}

// Client is a machine that is to have the files.
type Client struct {
	Name string
	Line int
}

// Parse reads a file; its name is for messages.
func Parse(r io.Reader, name string) (*File, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxBytes {
		return nil, fmt.Errorf("read %s: longer than %d bytes", name, maxBytes)
	}
	p := &parser{name: name, file: &File{}, seen: map[string]int{}}
	for line := range strings.Lines(string(text)) {
		p.line++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := p.take(line); err != nil {
			return nil, err
		}
		if p.ended {
			break // Dolly reads no further, either
		}
	}
	if err := p.whole(); err != nil {
		return nil, err
	}
	return p.file, nil
}

// parser is how far the file was read.
type parser struct {
	name  string
	line  int
	file  *File
	seen  map[string]int // a word's line
	files int            // of iofiles
	count int            // of clients
	ended bool
}

// wrong is an error about a word of the current line.
func (p *parser) wrong(word, format string, args ...any) error {
	return p.wrongAt(p.line, word, format, args...)
}

func (p *parser) wrongAt(line int, word, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %q: %s", p.name, line, word, fmt.Sprintf(format, args...))
}

// take reads one line that says something. What a line is depends on what
// came before: after "iofiles 3" come three copies, after "clients 3" names.
func (p *parser) take(line string) error {
	if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f || c == 0xfffd }) {
		return p.wrong(line, "has control characters, or isn't UTF-8")
	}
	word, rest := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		word, rest = line[:i], strings.TrimSpace(line[i:])
	}
	if p.files > len(p.file.Copies) && p.file.Plus {
		return p.copyLine(word, line)
	}
	if word == "endconfig" {
		p.ended = true
		return p.alone(word, rest)
	}
	if p.seen["clients"] > 0 {
		return p.client(line)
	}
	if word == "compressed" {
		return p.compressed(rest)
	}
	set := p.words()[word]
	if set == nil {
		if strings.Contains(line, ">") && p.file.Plus {
			return p.wrong(line, "is one copy more than iofiles %d on line %d says", p.files, p.seen["iofiles"])
		}
		return p.wrong(word, "unknown word: want infile, outfile, iofiles, server, firstclient, lastclient, clients or endconfig")
	}
	if at := p.seen[word]; at > 0 {
		return p.wrong(word, "is on line %d already", at)
	}
	p.seen[word] = p.line
	return set(word, rest)
}

// words are those of either grammar, and what reads their line. Besides the
// manual's there are those of Dolly's own that change nothing that is copied.
func (p *parser) words() map[string]func(word, rest string) error {
	f := p.file
	return map[string]func(word, rest string) error{
		"infile":      func(word, rest string) error { return p.fileName(word, rest, &p.only().In) },
		"outfile":     p.outfile,
		"iofiles":     p.iofiles,
		"server":      func(word, rest string) error { return p.host(word, rest, &f.Server) },
		"firstclient": func(word, rest string) error { return p.host(word, rest, &f.FirstClient) },
		"lastclient":  func(word, rest string) error { return p.host(word, rest, &f.LastClient) },
		"clients":     p.clients,

		"segsize": p.idle, "fanout": p.idle, "add": p.idle, "add2": p.idle,
		"hyphennormal": p.idle, "hypheninterface": p.idle,
		"dummy": func(word, _ string) error {
			return p.wrong(word, "copies nothing: golden-serve doctor looks at the network")
		},
	}
}

// idle notes a word that is about how Dolly sends.
func (p *parser) idle(word, _ string) error {
	p.file.Notes = append(p.file.Notes, fmt.Sprintf("%s:%d: %s: means nothing here: the chain orders itself", p.name, p.line, word))
	return nil
}

// only is the one copy of Dolly's grammar.
func (p *parser) only() *Copy {
	if len(p.file.Copies) == 0 {
		p.file.Copies = []Copy{{}}
	}
	return &p.file.Copies[0]
}

func (p *parser) alone(word, rest string) error {
	if rest != "" {
		return p.wrong(rest, "nothing is expected after %s", word)
	}
	return nil
}

// compressed is Dolly's own word before infile.
func (p *parser) compressed(rest string) error {
	word, _, _ := strings.Cut(rest, " ")
	if word != "infile" {
		return p.wrong(rest, "want compressed infile FILE: what is written on the nodes is not compressed")
	}
	p.only().Packed = true
	return p.take(rest)
}

func (p *parser) fileName(word, name string, to *string) error {
	if at := p.seen["iofiles"]; at > 0 {
		return p.wrong(word, "goes without iofiles, which is on line %d", at)
	}
	p.only().Line = p.line
	return p.putName(word, name, to)
}

func (p *parser) putName(word, name string, to *string) error {
	switch {
	case name == "":
		return p.wrong(word, "has no file's name")
	case len(name) > maxName:
		return p.wrong(name[:40]+"…", "is longer than %d bytes", maxName)
	}
	for _, tail := range []string{" split", " splitted"} {
		if strings.HasSuffix(name, tail) {
			return p.wrong(strings.TrimSpace(tail), "parts of a file are not put together: join them with cat first")
		}
	}
	*to = name
	return nil
}

// outfile may have the ">" before it of which the manual speaks.
func (p *parser) outfile(word, rest string) error {
	name := strings.TrimSpace(strings.TrimPrefix(rest, ">"))
	if strings.HasPrefix(name, ">") {
		return p.wrong(rest, "cooking is Dolly+'s: use iofiles")
	}
	return p.fileName(word, name, &p.only().Out)
}

func (p *parser) iofiles(word, rest string) error {
	for _, w := range []string{"infile", "outfile"} {
		if at := p.seen[w]; at > 0 {
			return p.wrong(word, "goes without %s, which is on line %d", w, at)
		}
	}
	n, err := p.number(word, rest, maxFiles)
	p.files, p.file.Plus = n, true
	return err
}

// copyLine reads "IN > OUT" or "IN >> OUT". The original wanted single blanks;
// here any go, and none.
func (p *parser) copyLine(word, line string) error {
	i := strings.IndexByte(line, '>')
	if i < 0 && (p.words()[word] != nil || word == "endconfig") {
		return p.wrong(word, "iofiles %d on line %d, but %d came", p.files, p.seen["iofiles"], len(p.file.Copies))
	}
	if i < 0 {
		return p.wrong(line, "want INFILE > OUTFILE, or INFILE >> OUTFILE to have it unpacked")
	}
	out := strings.TrimLeft(line[i:], ">")
	c := Copy{Cook: len(line)-i-len(out) > 1, Line: p.line} // the manual has ">>>>" as well
	if strings.Contains(out, ">") {
		return p.wrong(line, "one line has one > or >>")
	}
	if err := p.putName(line, strings.TrimSpace(line[:i]), &c.In); err != nil {
		return err
	}
	if err := p.putName(line, strings.TrimSpace(out), &c.Out); err != nil {
		return err
	}
	p.file.Copies = append(p.file.Copies, c)
	return nil
}

func (p *parser) number(word, text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, p.wrong(text, "want a number from 1 to %d after %s", most, word)
	}
	return n, nil
}

func (p *parser) clients(word, rest string) error {
	var err error
	p.count, err = p.number(word, rest, maxClients)
	return err
}

func (p *parser) host(word, name string, to *string) error {
	if err := p.checkHost(word, name); err != nil {
		return err
	}
	*to = name
	return nil
}

func (p *parser) checkHost(word, name string) error {
	switch {
	case name == "":
		return p.wrong(word, "has no machine's name")
	case strings.ContainsAny(name, " \t"):
		return p.wrong(name, "want one machine on a line")
	case len(name) > maxHost:
		return p.wrong(name[:40]+"…", "is longer than %d bytes", maxHost)
	case strings.ContainsFunc(name, func(c rune) bool {
		return c > 0x7e || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:", c)
	}):
		return p.wrong(name, "is no machine's name or address")
	}
	return nil
}

// client reads a name of the list behind "clients N".
func (p *parser) client(line string) error {
	if p.words()[line] != nil {
		return p.wrong(line, "belongs before clients, which is on line %d", p.seen["clients"])
	}
	if word, _, many := strings.Cut(line, " "); many && p.words()[word] != nil {
		return p.wrong(word, "belongs before clients, which is on line %d", p.seen["clients"])
	}
	if err := p.checkHost(line, line); err != nil {
		return err
	}
	f := p.file
	if i := slices.IndexFunc(f.Clients, func(c Client) bool { return strings.EqualFold(c.Name, line) }); i >= 0 {
		return p.wrong(line, "is on line %d already: the chain would run in a circle", f.Clients[i].Line)
	}
	if strings.EqualFold(line, f.Server) {
		return p.wrong(line, "is the server: the chain would run in a circle")
	}
	if len(f.Clients) == p.count {
		return p.wrong(line, "clients %d on line %d, and this is one more", p.count, p.seen["clients"])
	}
	f.Clients = append(f.Clients, Client{line, p.line})
	return nil
}
