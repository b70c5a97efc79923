package golden

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kamethod/kamethod/golden/internal/nodesfile"
	"github.com/kamethod/kamethod/golden/internal/roster"
)

// CheckNodes reads a nodes file, and wants each IPv4 address in one of these
// networks; none: anywhere.
func CheckNodes(path string, networks []netip.Prefix) ([]Named, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the list of nodes: %w", err)
	}
	defer f.Close()
	return nodesfile.ParseWithin(f, path, networks)
}

// NetworksOf are the IPv4 networks of an interface.
func NetworksOf(name string) ([]netip.Prefix, error) {
	list, err := networksOf(name)
	for i := range list {
		list[i] = list[i].Masked()
	}
	return list, err
}

// Newcomers says what is added to a nodes file.
type Newcomers struct {
	Seen     []Machine // of a session
	MACs     []string  // these, whether they were seen or not; none: all that were
	Label    string
	Hostname string // the template of their names
}

// AddNodes adds machines to a nodes file, which is made if it isn't there: the
// whole new text is in its place, or the old one is.
func AddNodes(path string, n Newcomers) ([]Named, error) {
	if err := checkHostname(n.Hostname); err != nil {
		return nil, err
	}
	if !strings.Contains(n.Hostname, "%") {
		return nil, fmt.Errorf("host name template %q: want one %%d or %%03d, for all of them would be called so", n.Hostname)
	}
	list, err := n.list()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = []byte("# Machines that boot from the network: golden-serve clone --nodes-file.\n")
	case err != nil:
		return nil, fmt.Errorf("read the list of nodes: %w", err)
	default:
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, fmt.Errorf("find the list of nodes: %w", err)
		}
	}
	text, added, err := nodesfile.Add(text, path, list, func(i int) string { return hostname(n.Hostname, i) })
	if err != nil || len(added) == 0 {
		return nil, err
	}
	if err := renameio.WriteFile(path, text, 0o644, renameio.WithExistingPermissions()); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return added, nil
}

func (n Newcomers) list() ([]nodesfile.Newcomer, error) {
	seen := map[string]Machine{}
	var macs []string
	for _, m := range n.Seen {
		seen[m.MAC] = m
		macs = append(macs, m.MAC)
	}
	if len(n.MACs) > 0 {
		macs = n.MACs
	}
	var out []nodesfile.Newcomer
	for _, s := range macs {
		mac, err := roster.ParseMAC(s)
		if err != nil {
			return nil, err
		}
		out = append(out, nodesfile.Newcomer{MAC: mac, Label: n.Label, Comment: wasSeen(seen[mac])})
	}
	return out, nil
}

// wasSeen is what is known of a machine, for who has to find out which it is.
func wasSeen(m Machine) string {
	if m.MAC == "" {
		return ""
	}
	words := []string{"seen " + m.Since.Local().Format(time.DateOnly)}
	for _, w := range []string{m.Address, m.Arch} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, ", ")
}
