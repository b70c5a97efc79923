package fixup

import (
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// Bounds of what golden is told, in bytes: of a text, for a path may have 4096,
// and of them all, for a node that lost golden says it again when it registers.
const (
	maxReported = 4096
	maxDone     = 512 << 10
)

// Done is the report as golden is told.
func (r Report) Done() wire.Done {
	d := wire.Done{HostKeys: r.HostKeys}
	files, room := 0, maxDone
	fits := func(texts ...string) bool {
		for _, t := range texts {
			room -= min(len(t), maxReported) + 32 // quotes, words and commas
		}
		return room > 0
	}
	for _, s := range r.Steps {
		w := wire.FixStep{Name: s.Name, Skipped: s.Skipped, Seconds: s.Took.Seconds()}
		for _, f := range s.Files {
			if files++; files > wire.MaxFixFiles || !fits(f.Path, f.Why) {
				d.MoreFiles++
				continue
			}
			w.Files = append(w.Files, wire.FixFile{Path: clip(f.Path), Why: clip(f.Why)})
		}
		for _, m := range s.Warnings {
			if !fits(m, m) {
				break
			}
			w.Warnings = append(w.Warnings, clip(m))
			d.Notes = append(d.Notes, clip(s.Name+": "+m))
		}
		d.Steps = append(d.Steps, w)
	}
	for _, l := range r.Leftovers {
		if !fits(l, l) {
			break
		}
		d.Leftovers = append(d.Leftovers, clip(l))
		d.Notes = append(d.Notes, clip("left over: "+l))
	}
	return d
}

func clip(s string) string { return s[:min(len(s), maxReported)] }

// Cards are the addresses of this node's network cards, in the kernel's order:
// not those of what is made of cards.
func Cards(sys string) []string {
	list, err := net.Interfaces() // by index
	if err != nil {
		return nil
	}
	var out []string
	for _, i := range list {
		dir := filepath.Join(sys, "class/net", i.Name)
		if _, err := os.Stat(filepath.Join(dir, "device")); err != nil || len(i.HardwareAddr) != 6 {
			continue
		}
		mac := i.HardwareAddr.String()
		if b, err := os.ReadFile(filepath.Join(dir, "perm_address")); err == nil && isMAC(strings.TrimSpace(string(b))) {
			mac = strings.ToLower(strings.TrimSpace(string(b)))
		}
		out = append(out, mac)
	}
	return out
}
