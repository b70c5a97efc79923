package builder

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Recipe says what an image holds. Its text form has one thing per line:
//
//	command  ./cmds/node/stage1/*         commands of the source module, or Go import paths
//	buildtag goshliner                    a build tag that the commands are compiled with
//	module   kernel/drivers/net/phy/...   kernel modules: folder/..., path with * and ?, or a name
//	nomodule kernel/net/phy/...           not these, unless another one needs them
//	program  mke2fs                       program of this machine, as /sbin/mke2fs, with its libraries
//	program  lvm lvm2                     the same, or where it isn't installed, out of this package, unpacked aside
//	library  libgcc_s.so.1                library that a program opens when it runs, beside those it is linked with
//	file     /etc/mke2fs.conf             file of this machine
//	file     /usr/share/misc/pci.ids pci.ids   the same, or where it isn't there, out of this package
//	names    /usr/share/misc/pci.ids pci.ids   list of device names, only those that the image's modules can match
//	dir      /tmp 1777                    folder (mode 0755 if none is given)
//	link     /init bbin/init              symbolic link and its target
//	link?    /bin/sh ../bbin/gosh         the same, left out where the image's base has something of that name
//
// program?, library?, file? and names? are left out where the machine hasn't got
// them; one that names a package is warned of then. Lines are taken in order;
// # starts a comment.
type Recipe struct {
	Commands  []string
	Tags      []string
	Modules   []ModulePattern
	Programs  []HostFile
	Libraries []HostFile
	Files     []HostFile
	Names     []HostFile
	Dirs      []Dir
	Links     []Link
}

// ModulePattern takes modules in, or leaves them out.
type ModulePattern struct {
	Pattern string
	Out     bool
}

// HostFile is a program or file of the machine that builds.
type HostFile struct {
	Name     string
	Optional bool
	Line     int
	Package  string // that has the program, where this machine hasn't
}

// Dir is a folder of the image.
type Dir struct {
	Name string
	Mode fs.FileMode
}

// Link is a symbolic link of the image.
type Link struct {
	Name, Target string
	Optional     bool // left out where a base has that name
}

// ParseRecipe reads a recipe; name is for messages.
func ParseRecipe(name string, r io.Reader) (*Recipe, error) {
	rec := &Recipe{}
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		text, _, _ := strings.Cut(s.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if err := rec.line(words, n); err != nil {
			return nil, fmt.Errorf("recipe %s line %d: %w", name, n, err)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	return rec, nil
}

func (rec *Recipe) line(words []string, n int) error {
	verb, optional := strings.CutSuffix(words[0], "?")
	args := words[1:]
	if optional && verb != "program" && verb != "library" && verb != "file" && verb != "names" && verb != "link" {
		return fmt.Errorf("word %q: only program, library, file, names and link can be optional", words[0])
	}
	if err := countWords(verb, args); err != nil {
		return err
	}
	switch verb {
	case "command":
		rec.Commands = append(rec.Commands, args[0])
	case "buildtag":
		if strings.Contains(args[0], ",") {
			return fmt.Errorf("word %q: one build tag a line", args[0])
		}
		rec.Tags = append(rec.Tags, args[0])
	case "module", "nomodule":
		if _, err := path.Match(args[0], ""); err != nil {
			return fmt.Errorf("word %q: %w", args[0], err)
		}
		rec.Modules = append(rec.Modules, ModulePattern{args[0], verb == "nomodule"})
	case "program", "library", "file", "names":
		h := HostFile{Name: args[0], Optional: optional, Line: n}
		if len(args) > 1 {
			if h.Package = args[1]; !packageName.MatchString(h.Package) {
				return fmt.Errorf("word %q: want a package's name", args[1])
			}
		}
		return rec.hostFile(verb, h)
	case "dir":
		mode, err := dirMode(args[1:])
		if err != nil {
			return err
		}
		rec.Dirs = append(rec.Dirs, Dir{args[0], mode})
	case "link":
		rec.Links = append(rec.Links, Link{args[0], args[1], optional})
	}
	return nil
}

func (rec *Recipe) hostFile(verb string, h HostFile) error {
	byPath := verb == "file" || verb == "names"
	if !byPath && strings.Contains(h.Name, "/") {
		return fmt.Errorf("word %q: a %s is named without its folder", h.Name, verb)
	}
	if byPath && !path.IsAbs(h.Name) {
		return fmt.Errorf("word %q: want an absolute path", h.Name)
	}
	list := map[string]*[]HostFile{
		"program": &rec.Programs, "library": &rec.Libraries, "file": &rec.Files, "names": &rec.Names,
	}[verb]
	*list = append(*list, h)
	return nil
}

func countWords(verb string, args []string) error {
	low, high := 1, 1
	switch verb {
	case "command", "buildtag", "module", "nomodule", "library":
	case "dir", "program", "file", "names":
		high = 2
	case "link":
		low, high = 2, 2
	default:
		return fmt.Errorf("word %q: want command, buildtag, module, nomodule, program, library, file, names, dir or link", verb)
	}
	if len(args) < low {
		return fmt.Errorf("%s: %d words missing", verb, low-len(args))
	}
	if len(args) > high {
		return fmt.Errorf("%s: word %q is one too many", verb, args[high])
	}
	return nil
}

func dirMode(args []string) (fs.FileMode, error) {
	if len(args) == 0 {
		return 0o755, nil
	}
	m, err := strconv.ParseUint(args[0], 8, 16)
	if err != nil || m > 0o1777 {
		return 0, fmt.Errorf("word %q: want an octal mode up to 1777", args[0])
	}
	mode := fs.FileMode(m & 0o777)
	if m&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode, nil
}
