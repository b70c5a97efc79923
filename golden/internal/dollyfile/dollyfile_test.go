package dollyfile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func clients(first int, names ...string) []Client {
	var all []Client
	for i, n := range names {
		all = append(all, Client{n, first + i})
	}
	return all
}

// The files of the manuals, letter by letter.
func TestManuals(t *testing.T) {
	want := map[string]File{
		"003-dolly-stage2.cfg": {
			Copies: []Copy{{In: "stage2.img", Out: "/dev/ram3", Line: 2}},
			Server: "servernode", FirstClient: "12.12.12.1", LastClient: "12.12.12.3", Clients: clients(7, "12.12.12.1", "12.12.12.2", "12.12.12.3"),
		},
		"003-dolly.cfg": {
			Copies: []Copy{{In: "/dev/sda", Out: "/dev/sda", Line: 2}},
			Server: "node1", FirstClient: "node2", LastClient: "node5", Clients: clients(7, "node2", "node3", "node4", "node5"),
		},
		"003-dolly-plus.cfg": {
			Plus: true,
			Copies: []Copy{
				{In: "/dev/hda1", Out: "/tmp/dev/hda1", Line: 2}, {In: "/data/file.gz", Out: "/data/file", Cook: true, Line: 3},
				{In: "boot.tar.Z", Out: "/boot", Cook: true, Line: 4},
			},
			Server: "max5.paris", FirstClient: "max6.paris", LastClient: "max8.paris", Clients: clients(9, "max6.paris", "max7.paris", "max8.paris"),
		},
		"004-diskless.cfg": {
			Copies: []Copy{{In: "diskless_node.img", Out: "/dev/ram3", Line: 2}},
			Server: "servernode", FirstClient: "10.0.1.31", LastClient: "10.0.1.33", Clients: clients(7, "10.0.1.31", "10.0.1.32", "10.0.1.33"),
		},
		"004-typical.cfg": {
			Copies: []Copy{{In: "/tmp/stage2.img", Out: "/dev/ram3", Line: 2}},
			Server: "guibpiv.guibland.com", FirstClient: "10.0.1.34", LastClient: "10.0.1.34", Clients: clients(7, "10.0.1.34"),
		},
	}
	files, err := filepath.Glob("testdata/*.cfg")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d files, %d expected: %v", len(files), len(want), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// Also as an editor of Windows leaves it, and with blanks where
		// Dolly+ wanted none.
		for _, form := range []string{
			string(text), strings.ReplaceAll(string(text), "\n", "\r\n"),
			strings.ReplaceAll(string(text), "\n", " \t\n"), "  " + strings.ReplaceAll(string(text), " ", "\t  "),
			strings.ReplaceAll(strings.ReplaceAll(string(text), "> ", ">"), " >", ">"),
			strings.ReplaceAll(string(text), ">>", ">>>>"), string(text) + "-----\n",
		} {
			got, err := Parse(strings.NewReader(form), name)
			if err != nil {
				t.Errorf("%q: %v", form, err)
				continue
			}
			if d := cmp.Diff(want[filepath.Base(name)], *got); d != "" {
				t.Errorf("%q (-want +got)\n%s", form, d)
			}
		}
	}
}

const plain = "infile a\noutfile /dev/sda\nserver s\nfirstclient n1\nlastclient n2\nclients 2\nn1\nn2\nendconfig\n"
const plus = "iofiles 2\na > /dev/sda\nb.tar >> /boot\nserver s\nfirstclient n1\nlastclient n2\nclients 2\nn1\nn2\nendconfig\n"

// Bad input: each is refused with file, line and word.
func TestBad(t *testing.T) {
	for _, c := range []struct{ from, old, new, want string }{
		{plain, "endconfig\n", "", `x.cfg:8: "endconfig": is missing`},
		{plain, plain, "", `x.cfg:0: "endconfig": is missing`},
		{plain, "clients 2", "clients 3", `x.cfg:6: "clients 3": 2 names follow`},
		{plain, "clients 2", "clients 1", `x.cfg:8: "n2": clients 1 on line 6, and this is one more`},
		{plain, "clients 2", "clients 0", `x.cfg:6: "0": want a number from 1`},
		{plain, "clients 2", "clients -2", `x.cfg:6: "-2": want a number`},
		{plain, "clients 2", "clients two", `x.cfg:6: "two": want a number`},
		{plain, "clients 2", "clients", `x.cfg:6: "": want a number`},
		{plain, "clients 2", "clients 99999", `x.cfg:6: "99999": want a number`},
		{plain, "server s", "srever s", `x.cfg:3: "srever": unknown word`},
		{plain, "server s\n", "", `"server": is missing`},
		{plain, "server s", "server s\nserver t", `x.cfg:4: "server": is on line 3 already`},
		{plain, "server s", "server", `x.cfg:3: "server": has no machine's name`},
		{plain, "server s", "server s t", `x.cfg:3: "s t": want one machine`},
		{plain, "server s", "server s;reboot", `is no machine's name`},
		{plain, "infile a\n", "", `"infile": is missing`},
		{plain, "infile a", "infile", `x.cfg:1: "infile": has no file's name`},
		{plain, "infile a", "infile a split", `x.cfg:1: "split"`},
		{plain, "outfile /dev/sda\n", "", `"outfile": is missing`},
		{plain, "outfile /dev/sda", "outfile sda", `x.cfg:2: "sda": the outfile is on the nodes`},
		{plain, "outfile /dev/sda", "outfile /dev/../etc/passwd", `want a path without ..`},
		{plain, "outfile /dev/sda", "outfile >> /dev/sda", `cooking is Dolly+'s`},
		{plain, "outfile /dev/sda", "outfile /dev/sda\x01", `control characters`},
		{plain, "\nn2\n", "\nn1\n", `x.cfg:8: "n1": is on line 7 already: the chain would run in a circle`},
		{plain, "\nn2\n", "\nN1\n", `x.cfg:8: "N1": is on line 7 already`},
		{plain, "\nn2\n", "\ns\n", `x.cfg:8: "s": is the server: the chain would run in a circle`},
		{plain, "\nn2\n", "\nn2 n3\n", `x.cfg:8: "n2 n3": want one machine on a line`},
		{plain, "\nn2\n", "\nn2\ninfile b\n", `x.cfg:9: "infile": belongs before clients`},
		{plain, "firstclient n1", "firstclient n7", `x.cfg:4: "n7": firstclient is none of the clients`},
		{plain, "lastclient n2", "lastclient n7", `x.cfg:5: "n7": lastclient is none of the clients`},
		{plain, "infile a", "infile a\niofiles 1", `x.cfg:2: "iofiles": goes without infile`},
		{plain, "endconfig", "endconfig now", `x.cfg:9: "now": nothing is expected`},
		{plain, "infile a", "dummy 100", `x.cfg:1: "dummy"`},
		{plain, "outfile /dev/sda", "compressed outfile /dev/sda", `what is written on the nodes is not compressed`},
		{plus, "iofiles 2", "iofiles 3", `x.cfg:4: "server": iofiles 3 on line 1, but 2 came`},
		{plus, "iofiles 2", "iofiles 1", `x.cfg:3: "b.tar >> /boot": is one copy more than iofiles 1`},
		{plus, "iofiles 2", "iofiles x", `x.cfg:1: "x": want a number`},
		{plus, "a > /dev/sda", "a /dev/sda", `x.cfg:2: "a /dev/sda": want INFILE > OUTFILE`},
		{plus, "a > /dev/sda", "> /dev/sda", `has no file's name`},
		{plus, "a > /dev/sda", "a >", `has no file's name`},
		{plus, "a > /dev/sda", "a > /b > /c", `one line has one >`},
		{plus, "b.tar >> /boot", "b.gz >> /dev/sda", `x.cfg:3: "/dev/sda": line 2 writes it already`},
		{plus, "b.tar >> /boot", "b > /dev//sda", `line 2 writes it already`},
		{plus, "server s", "infile a", `x.cfg:4: "infile": goes without iofiles`},
	} {
		text := strings.Replace(c.from, c.old, c.new, 1)
		f, err := Parse(strings.NewReader(text), "x.cfg")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "x.cfg:") {
			t.Errorf("%q: %+v, %v; want %s", text, f, err, c.want)
		}
	}
	if _, err := Parse(bytes.NewReader(make([]byte, maxBytes+1)), "x.cfg"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a long one: %v", err)
	}
}

// What Dolly knows besides.
func TestMore(t *testing.T) {
	f, err := Parse(strings.NewReader("# ours\n\ncompressed infile a\noutfile > /dev/sda\nsegsize 1024\nhyphennormal\nserver s\nfirstclient n2\nlastclient n2\nclients 2\nn1\nn2\nendconfig"), "x.cfg")
	if err != nil || !f.Copies[0].Packed || f.Copies[0].Out != "/dev/sda" || len(f.Notes) != 3 {
		t.Errorf("%+v, %v", f, err)
	}
	f, err = Parse(strings.NewReader("iofiles 2\na.tar >> /x\nb.cpio.gz >> /x\nserver s\nfirstclient who\nlastclient n1\nclients 1\nn1\nendconfig"), "x.cfg")
	if err != nil || len(f.Copies) != 2 || len(f.Notes) != 1 {
		t.Errorf("two archives into one folder: %+v, %v", f, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"003-dolly.cfg", "003-dolly-plus.cfg", "004-diskless.cfg"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("iofiles 1\n>>>\n")
	f.Add("compressed compressed infile")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse(strings.NewReader(text), "x.cfg")
		if err != nil {
			if !strings.Contains(err.Error(), "x.cfg") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		if len(file.Clients) == 0 || len(file.Copies) == 0 || file.Server == "" {
			t.Errorf("%+v", file)
		}
		for _, c := range file.Copies {
			if c.In == "" || !strings.HasPrefix(c.Out, "/") || strings.Contains(c.Out, "/../") {
				t.Errorf("%+v", c)
			}
		}
	})
}
