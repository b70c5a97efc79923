package builder

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
)

// AddTo puts modules into an image, with the lists that a loader needs:
// modules.dep, modules.alias, modules.softdep as depmod(8) writes them, for
// this set alone, and the kernel's own modules.builtin.
func (ms *Modules) AddTo(t *Tree, set []*Module) error {
	dir := path.Join("lib/modules", ms.Release)
	for _, m := range set {
		err := t.addFile(path.Join(dir, m.Path), 0o644, func() ([]byte, error) { return readModule(m.file) })
		if err != nil {
			return err
		}
	}
	lists := []ExtraFile{
		{Name: "modules.dep", Data: depList(set)},
		{Name: "modules.alias", Data: aliasList(set)},
		{Name: "modules.softdep", Data: softdepList(set)},
	}
	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo"} {
		if b, err := os.ReadFile(filepath.Join(ms.dir, name)); err == nil {
			lists = append(lists, ExtraFile{Name: name, Data: b})
		}
	}
	for _, l := range lists {
		if err := t.AddData(path.Join(dir, l.Name), l.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// depList has a line per module: its path, and all it needs, directly or not.
// A loader goes through them from the end: each stands before what it needs.
func depList(set []*Module) []byte {
	var b bytes.Buffer
	for _, m := range set {
		b.WriteString(m.Path + ":")
		for _, d := range loadOrder(m) {
			b.WriteString(" " + d.Path)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// loadOrder lists what m needs, each before its own needs: depth first,
// appended on the way out, turned round.
func loadOrder(m *Module) []*Module {
	var order []*Module
	seen := map[*Module]bool{m: true}
	var visit func(*Module)
	visit = func(m *Module) {
		for _, d := range m.deps {
			if !seen[d] {
				seen[d] = true
				visit(d)
				order = append(order, d)
			}
		}
	}
	visit(m)
	for i, j := 0, len(order)-1; i < j; i, j = i+1, j-1 {
		order[i], order[j] = order[j], order[i]
	}
	return order
}

func aliasList(set []*Module) []byte {
	b := bytes.NewBufferString("# Aliases extracted from modules themselves.\n")
	for _, m := range set {
		for _, a := range m.info.aliases {
			fmt.Fprintf(b, "alias %s %s\n", a, m.Name)
		}
	}
	return b.Bytes()
}

func softdepList(set []*Module) []byte {
	b := bytes.NewBufferString("# Soft dependencies extracted from modules themselves.\n")
	for _, m := range set {
		for _, s := range m.info.softdeps {
			fmt.Fprintf(b, "softdep %s %s\n", m.Name, s)
		}
	}
	return b.Bytes()
}
