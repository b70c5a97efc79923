package builder

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Module is one kernel module of a folder like /lib/modules/6.1.0.
type Module struct {
	Name string // as lsmod(8) says it: virtio_net
	Path string // below the folder, without compression: kernel/drivers/net/virtio_net.ko

	file string // on this machine
	info modinfo
	deps []*Module // direct
}

// Modules is all modules of one kernel.
type Modules struct {
	Release string
	All     []*Module // by Path

	dir     string
	builtin []string // paths, as modules.builtin has them
	byName  map[string]*Module
	byAlias map[string][]*Module // aliases without wildcards, spelled with underscores
}

// ReadModules reads every module below dir/kernel. It needs no modules.dep:
// a kernel package has none before it is installed.
func ReadModules(dir, release string) (*Modules, error) {
	ms := &Modules{
		Release: release, dir: dir,
		byName: map[string]*Module{}, byAlias: map[string][]*Module{},
	}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		stem, ok := moduleStem(file)
		if !ok {
			return nil
		}
		return ms.read(file, stem)
	})
	if err != nil {
		return nil, fmt.Errorf("read modules of %s: %w", dir, err)
	}
	if len(ms.All) == 0 {
		return nil, fmt.Errorf("read modules of %s: there is none", dir)
	}
	slices.SortFunc(ms.All, func(a, b *Module) int { return strings.Compare(a.Path, b.Path) })
	if err := ms.readBuiltin(); err != nil {
		return nil, err
	}
	return ms, ms.link()
}

func (ms *Modules) read(file, stem string) error {
	object, err := readModule(file)
	if err != nil {
		return err
	}
	mi, err := parseModinfo(object)
	if err != nil {
		return fmt.Errorf("module %s: %w", file, err)
	}
	rel, err := filepath.Rel(ms.dir, stem)
	if err != nil {
		return err
	}
	m := &Module{Name: underscores(path.Base(stem)), Path: rel + ".ko", file: file, info: mi}
	if old := ms.byName[m.Name]; old != nil {
		return fmt.Errorf("module %s: there are two, %s and %s", m.Name, old.file, file)
	}
	ms.byName[m.Name] = m
	ms.All = append(ms.All, m)
	return nil
}

func (ms *Modules) readBuiltin() error {
	b, err := os.ReadFile(filepath.Join(ms.dir, "modules.builtin"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // only makes messages less exact
	}
	if err != nil {
		return err
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		ms.builtin = append(ms.builtin, s.Text())
	}
	return s.Err()
}

// link resolves names to modules, once all are known.
func (ms *Modules) link() error {
	for _, m := range ms.All {
		for _, name := range m.info.depends {
			d := ms.byName[name]
			if d == nil {
				return fmt.Errorf("module %s needs %s, which is not below %s", m.file, name, ms.dir)
			}
			m.deps = append(m.deps, d)
		}
		for _, a := range m.info.aliases {
			if !strings.ContainsAny(a, "*?[") {
				a = underscores(a)
				ms.byAlias[a] = append(ms.byAlias[a], m)
			}
		}
	}
	return nil
}

// Find gives the modules that a name or a plain alias stands for.
func (ms *Modules) Find(word string) []*Module {
	word = underscores(word)
	if m := ms.byName[word]; m != nil {
		return []*Module{m}
	}
	return ms.byAlias[word]
}

// Select picks modules and everything they need, soft dependencies included.
// unknown are the patterns that should take something in and for which this
// kernel has nothing, built in or not.
func (ms *Modules) Select(patterns []ModulePattern) (set []*Module, unknown []string) {
	picked := map[*Module]bool{}
	for _, p := range patterns {
		found := false
		for _, m := range ms.All {
			if matchModule(p.Pattern, m.Path) {
				found = true
				if p.Out {
					delete(picked, m)
				} else {
					picked[m] = true
				}
			}
		}
		found = found || slices.ContainsFunc(ms.builtin, func(b string) bool { return matchModule(p.Pattern, b) })
		if !found && !p.Out {
			unknown = append(unknown, p.Pattern)
		}
	}
	queue := slices.Collect(maps.Keys(picked))
	for len(queue) > 0 {
		m := queue[0]
		queue = queue[1:]
		for _, need := range append(slices.Clone(m.deps), ms.soft(m)...) {
			if !picked[need] {
				picked[need] = true
				queue = append(queue, need)
			}
		}
	}
	for _, m := range ms.All {
		if picked[m] {
			set = append(set, m)
		}
	}
	return set, unknown
}

// soft resolves a module's soft dependencies. They may name an alias that
// several modules have: ext4's "pre: crc32c" is served by crc32c_generic and by
// crc32c_intel, and the kernel takes the best one that loads.
func (ms *Modules) soft(m *Module) []*Module {
	var all []*Module
	for _, s := range m.info.softdeps {
		for _, word := range strings.Fields(s) {
			if word == "pre:" || word == "post:" {
				continue
			}
			all = append(all, ms.Find(word)...)
		}
	}
	return all
}

// matchModule compares a pattern with a module's path, which ends in ".ko".
func matchModule(pattern, file string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(file, dir+"/")
	}
	stem := strings.TrimSuffix(file, ".ko")
	if !strings.Contains(pattern, "/") {
		pattern, stem = underscores(pattern), underscores(path.Base(stem))
	}
	ok, _ := path.Match(pattern, stem) // the recipe's parser refused bad patterns
	return ok
}
