// Package drivers finds and loads the kernel modules that a machine's devices
// ask for, as udev and modprobe do elsewhere. It reads the tables that depmod
// writes; it makes none, unloads nothing and knows no firmware.
//
//	/sys/…/modalias ──▶ modules.alias ──▶ name ──▶ modules.dep, softdep ──▶ finit_module
//	uevent MODALIAS= ─┘                    ▲
//	modprobe -q -- NAME ───────────────────┘
package drivers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxTable bounds the tables read: Debian's full modules.alias is 1.3 MB.
const maxTable = 64 << 20

// Index is what depmod knows about one kernel's modules. It doesn't change
// once read, so goroutines may share it.
type Index struct {
	dir     string              // /lib/modules/RELEASE
	files   map[string]string   // module → file, relative to dir
	deps    map[string][]string // module → modules it needs
	pre     map[string][]string // module → names or aliases to load before
	post    map[string][]string // module → names or aliases to load after
	builtin map[string]bool
	aliases map[string][]alias // by what stands before the first colon or wildcard
}

type alias struct {
	pattern string
	module  string
}

// ErrNotFound says that no module has that name or alias.
var ErrNotFound = errors.New("no such module or alias")

// Open reads the tables under root/lib/modules/release. modules.dep must be
// there; without the others nothing is found by alias.
func Open(root, release string) (*Index, error) {
	x := &Index{
		dir:     filepath.Join(root, "lib/modules", release),
		files:   map[string]string{},
		deps:    map[string][]string{},
		pre:     map[string][]string{},
		post:    map[string][]string{},
		builtin: map[string]bool{},
		aliases: map[string][]alias{},
	}
	if err := x.lines("modules.dep", x.addDep); err != nil {
		return nil, fmt.Errorf("read module tables of kernel %s: %w", release, err)
	}
	for name, add := range map[string]func(string){
		"modules.alias":   x.addAlias,
		"modules.softdep": x.addSoftdep,
		"modules.builtin": x.addBuiltin,
	} {
		if err := x.lines(name, add); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read module tables of kernel %s: %w", release, err)
		}
	}
	return x, x.readBuiltinAliases()
}

// lines hands over each line of a table that is neither empty nor a comment.
func (x *Index) lines(name string, add func(line string)) error {
	b, err := x.table(name)
	if err != nil {
		return err
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if line := strings.TrimSpace(sc.Text()); line != "" && line[0] != '#' {
			add(line)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(x.dir, name), err)
	}
	return nil
}

func (x *Index) table(name string) ([]byte, error) {
	path := filepath.Join(x.dir, name)
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxTable {
		return nil, fmt.Errorf("read %s: %d bytes are more than %d", path, st.Size(), maxTable)
	}
	return os.ReadFile(path)
}

// addDep takes "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/…".
func (x *Index) addDep(line string) {
	file, rest, ok := strings.Cut(line, ":")
	if !ok {
		return
	}
	name := moduleName(file)
	x.files[name] = file
	for _, f := range strings.Fields(rest) {
		x.deps[name] = append(x.deps[name], moduleName(f))
	}
}

// addAlias takes "alias pci:v00008086d* e1000".
func (x *Index) addAlias(line string) {
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "alias" {
		return
	}
	// A pattern may have blanks in it; the module's name has none.
	x.put(strings.Join(f[1:len(f)-1], " "), f[len(f)-1])
}

func (x *Index) put(pattern, module string) {
	p := normalize(pattern)
	key := bucket(p)
	x.aliases[key] = append(x.aliases[key], alias{pattern: p, module: normalize(module)})
}

// addSoftdep takes "softdep ext4 pre: crc32c post: a b".
func (x *Index) addSoftdep(line string) {
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "softdep" {
		return
	}
	name := normalize(f[1])
	var to map[string][]string
	for _, w := range f[2:] {
		switch {
		case w == "pre:":
			to = x.pre
		case w == "post:":
			to = x.post
		case to != nil: // Debian's "softdep cifs gcm" belongs to neither; kmod skips it too
			to[name] = append(to[name], w)
		}
	}
}

func (x *Index) addBuiltin(line string) {
	x.builtin[moduleName(line)] = true
}

// readBuiltinAliases takes the aliases of what is part of the kernel, so that
// they count as found: NUL-separated "module.alias=pattern".
func (x *Index) readBuiltinAliases() error {
	b, err := x.table("modules.builtin.modinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for rec := range bytes.SplitSeq(b, []byte{0}) {
		key, value, _ := strings.Cut(string(rec), "=")
		module, field, _ := strings.Cut(key, ".")
		if field != "alias" {
			continue
		}
		x.builtin[normalize(module)] = true
		x.put(value, module)
	}
	return nil
}

// Lookup resolves a module's name, or an alias such as a device's modalias,
// to modules, in the tables' order. A name goes before an alias, as in kmod.
func (x *Index) Lookup(name string) []string {
	n := normalize(name)
	if _, ok := x.files[n]; ok || x.builtin[n] {
		return []string{n}
	}
	var out []string
	add := func(list []alias) {
		for _, a := range list {
			if match(a.pattern, n) && !slices.Contains(out, a.module) {
				out = append(out, a.module)
			}
		}
	}
	add(x.aliases[bucket(n)])
	if b := bucket(n); b != "" {
		add(x.aliases[""]) // patterns that start with a wildcard
	}
	return x.modulesFirst(out)
}

// modulesFirst leaves out what is built in when a module matches too: kmod
// asks the built-in aliases only when nothing else answered.
func (x *Index) modulesFirst(names []string) []string {
	var files []string
	for _, n := range names {
		if _, ok := x.files[n]; ok {
			files = append(files, n)
		}
	}
	if len(files) > 0 {
		return files
	}
	return names
}

// bucket is the part of an alias by which the table is divided: the bus.
func bucket(s string) string {
	if i := strings.IndexAny(s, `:*?[\`); i >= 0 {
		if s[i] == ':' {
			return s[:i+1]
		}
		return ""
	}
	return s
}

// moduleName turns kernel/net/foo-bar.ko.xz into foo_bar.
func moduleName(file string) string {
	base := filepath.Base(file)
	name, _, _ := strings.Cut(base, ".ko")
	return normalize(name)
}

// normalize writes '-' as '_' but inside brackets, where it is a range. The
// kernel and depmod mix both.
func normalize(s string) string {
	if !strings.Contains(s, "-") {
		return s
	}
	b := []byte(s)
	inside := false
	for i, c := range b {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case c == '-' && !inside:
			b[i] = '_'
		}
	}
	return string(b)
}
