package golden

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kamethod/kamethod/golden/internal/nodesfile"
	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/wire"
)

// Named is a machine of a nodes file, and who it becomes.
type Named = nodesfile.Node

// ReadNodes reads a nodes file.
func ReadNodes(path string) ([]Named, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the list of nodes: %w", err)
	}
	defer f.Close()
	return nodesfile.Parse(f, path)
}

// named is what the nodes file says of a machine, or nil.
func (c *CloneConfig) named(mac string) *Named {
	if c == nil {
		return nil
	}
	own, err := roster.ParseMAC(mac)
	if err != nil {
		return nil
	}
	for i := range c.Named {
		if c.Named[i].MAC == own {
			return &c.Named[i]
		}
	}
	return nil
}

// nameOf is what a machine is called as a clone.
func (c *CloneConfig) nameOf(mac string, number int) string {
	if c.Plan.Identity.Mode == wire.IdentitySame {
		return c.Plan.Golden.Hostname
	}
	if m := c.named(mac); m != nil && m.Name != "" {
		return m.Name
	}
	return hostname(c.Plan.Identity.Hostname, number)
}

// identity is who a machine becomes.
func (c *CloneConfig) identity(mac string, number int) wire.Identity {
	id := c.Plan.Identity
	id.Hostname = c.nameOf(mac, number)
	m := c.named(mac)
	if m == nil || len(m.Addresses) == 0 || id.Mode == wire.IdentitySame {
		return id
	}
	n := wire.Network{MAC: m.MAC, Domain: m.Domain}
	for _, a := range m.Addresses {
		n.Addresses = append(n.Addresses, a.String())
	}
	for _, a := range m.DNS {
		n.DNS = append(n.DNS, a.String())
	}
	if m.Gateway.IsValid() {
		n.Gateway = m.Gateway.String()
	}
	id.Networks = []wire.Network{n}
	return id
}

// label puts down who a node has become.
func (c *CloneConfig) label(r *NodeResult) {
	r.Hostname = c.nameOf(r.MAC, r.Number)
	m := c.named(r.MAC)
	if m == nil {
		return
	}
	r.Label, r.Note = m.Label, m.Note
	for _, a := range m.Addresses {
		r.Fixed = append(r.Fixed, a.Addr().String())
	}
}

// numbersOf gives the machines of a nodes file their numbers; who has one of
// these from an earlier session gives it up.
func numbersOf(known map[string]int, list []Named) map[string]int {
	taken := map[int]bool{}
	for _, m := range list {
		taken[m.Number] = true
	}
	out := map[string]int{}
	for key, n := range known {
		if !taken[n] {
			out[key] = n
		}
	}
	for _, m := range list {
		out[m.MAC] = m.Number
	}
	return out
}

// fixedLeases are the addresses and names of a nodes file for DHCP. An address
// in a network that isn't served is the clone's own matter.
func fixedLeases(list []Named, served func(netip.Addr) bool) (fixed map[string]netip.Addr, names map[string]string) {
	fixed, names = map[string]netip.Addr{}, map[string]string{}
	for _, m := range list {
		if m.Name != "" {
			names[m.MAC] = m.Name
		}
		for _, a := range m.Addresses {
			if a.Addr().Is4() && served(a.Addr()) && !fixed[m.MAC].IsValid() {
				fixed[m.MAC] = a.Addr()
			}
		}
	}
	return fixed, names
}

// checkIdentity refuses what no node would carry out.
func checkIdentity(id wire.Identity) error {
	switch id.Mode {
	case "", wire.IdentityClone, wire.IdentitySame, wire.IdentityTemplate:
	default:
		return fmt.Errorf("identity %q: want %s, %s or %s", id.Mode, wire.IdentityClone, wire.IdentitySame, wire.IdentityTemplate)
	}
	for _, w := range id.Scrub {
		if w != wire.ScrubApps {
			return fmt.Errorf("scrub %q: want %s", w, wire.ScrubApps)
		}
	}
	if len(id.Scrub) > 0 && id.Mode == wire.IdentitySame {
		return errors.New("nothing is scrubbed of a machine that stays the same")
	}
	return nil
}

// ReadHooks reads the administrator's programs of a folder: its executable
// files, by name. Those whose names have other characters than run-parts(8)
// takes (a dot: packages' leftovers and copies of editors) are passed over, and
// named. A folder that isn't there has none.
func ReadHooks(dir string) (hooks []wire.Hook, passed []string, err error) {
	list, err := os.ReadDir(dir) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the hooks: %w", err)
	}
	word := regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		st, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("read the hooks: %w", err)
		case !word.MatchString(e.Name()):
			passed = append(passed, path+": its name has other characters than letters, digits, _ and -")
			continue
		case !st.Mode().IsRegular():
			passed = append(passed, path+": no file")
			continue
		case st.Mode()&0o111 == 0:
			passed = append(passed, path+": not executable")
			continue
		case len(hooks) == wire.MaxHooks:
			return nil, nil, fmt.Errorf("hooks in %s: more than %d", dir, wire.MaxHooks)
		}
		b, err := readHook(path)
		if err != nil {
			return nil, nil, err
		}
		hooks = append(hooks, wire.Hook{Name: e.Name(), Content: b})
	}
	return hooks, passed, hooksFit(hooks)
}

func readHook(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the hooks: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, wire.MaxHook+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read hook %s: %w", path, err)
	case len(b) == 0:
		return nil, fmt.Errorf("hook %s is empty", path)
	case len(b) > wire.MaxHook:
		return nil, fmt.Errorf("hook %s: more than %d bytes", path, wire.MaxHook)
	}
	return b, nil
}

// hooksFit: all of them go in one message, in base64, with room for the rest of
// the plan.
func hooksFit(hooks []wire.Hook) error {
	n := 0
	for _, h := range hooks {
		n += len(h.Content)*4/3 + len(h.Name) + 64
	}
	if n > wire.MaxMessage*3/4 {
		return fmt.Errorf("the hooks are %d bytes together, which is too much for one message", n)
	}
	return nil
}

// shortName is a name without its domain.
func shortName(s string) string {
	s, _, _ = strings.Cut(s, ".")
	return s
}
