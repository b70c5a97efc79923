package golden

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/internal/render"
	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/kamethod/kamethod/templates"
)

// RunConfig is what Run needs beside Config.
type RunConfig struct {
	Config
	Source   chain.Source // a tree, or a squashfs or ext image
	Boot     *Boot        // nil: machines are booted by somebody else, with ka.run=ram
	Named    []Named      // machines of a nodes file, and who they become
	Hostname string       // template with one %d or %03d: the machine's number; empty: "node%d"
	Render   string       // folder with further files that are rendered for each machine; empty: none
	Swap     bool         // machines that we boot use the swap areas on their own disks
	Open     bool         // a machine without any token may come
	Stay     bool         // serve who boots again, until the context ends
}

// guests are the machines that run in their memory what we send. No disk of
// theirs is touched, so nobody is asked.
//
//	here ▶ is told who it is ▶ (tree ferry) ▶ receiving ▶ done ▶ released: it runs
type guests struct {
	RunConfig
	set render.Set
	own []string // our own network cards

	mu  sync.Mutex
	has map[string]place // machines that were given the image, where nobody is named
}

// place is a machine's among the first so many. It is given back when the
// machine doesn't register in time: it was switched off, or runs something else.
type place struct {
	since time.Time // when it was last given the image
	here  bool      // it has registered
}

// expire takes back the places of those that never came; the lock is held.
func (g *guests) expire(now time.Time) {
	maps.DeleteFunc(g.has, func(_ string, p place) bool { return !p.here && now.Sub(p.since) > roster.DefaultArmFor })
}

// came: a machine has registered, and its place is its own.
func (g *guests) came(mac string) {
	own, err := roster.ParseMAC(mac)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, ok := g.has[own]; ok {
		p.here = true
		g.has[own] = p
	}
}

// Run gives a source to machines that run it in their memory, and to karecv.
func Run(ctx context.Context, c RunConfig) (Result, error) {
	d, err := newRun(c)
	if err != nil {
		return Result{}, err
	}
	h := newHub([]*deployment{d})
	var serveBoot func(context.Context) error
	if c.Boot != nil {
		boot, err := d.guests.boot(h)
		if err != nil {
			return Result{}, err
		}
		defer boot.Close()
		if len(boot) > 0 {
			serveBoot = boot.Serve
		}
	}
	err = h.serve(ctx, serveBoot)[0]
	r := d.result()
	for i := range r.Nodes {
		d.label(&r.Nodes[i])
	}
	return r, err
}

func newRun(c RunConfig) (*deployment, error) {
	d, err := newSend(c.Config, c.Source)
	if err != nil {
		return nil, err
	}
	c.Config = d.Config
	g := &guests{RunConfig: c}
	d.guests = g
	d.server.Open = c.Open
	if len(c.Named) > 0 {
		d.server.know(numbersOf(d.Book.numbers(), c.Named))
	}
	if err := checkHostname(c.Hostname); err != nil {
		return nil, err
	}
	if g.own, err = ownCards(); err != nil {
		return nil, err
	}
	return d, g.read()
}

// read takes in the templates, and tries them with what is known already: a
// fault in one is better found before anybody waits.
func (g *guests) read() error {
	if err := g.set.Add("templates", templates.Diskless()); err != nil {
		return err
	}
	if g.Render != "" {
		st, err := os.Stat(g.Render)
		if err != nil {
			return fmt.Errorf("files to render: %w", err)
		}
		if !st.IsDir() {
			return fmt.Errorf("files to render: %s is no folder", g.Render)
		}
		if err := g.set.Add(g.Render, os.DirFS(g.Render)); err != nil {
			return err
		}
	}
	list := g.machines(nil)
	if len(list) == 0 {
		list = []render.Machine{{Name: hostname(g.Hostname, 1), ID: 1, Card: firstCard}}
	}
	_, err := g.set.For(render.Cluster{Session: g.Session, Nodes: list, Node: list[0]})
	return err
}

// firstCard is what a machine calls its only network card when its kernel has
// heard net.ifnames=0.
const firstCard = "eth0"

// machines are those of the nodes file, and who is here besides, by number.
func (g *guests) machines(here []*Node) []render.Machine {
	var out []render.Machine
	at := map[int]int{} // a machine's number, and where in out it is
	for _, m := range g.Named {
		r := render.Machine{Name: g.nameOf(m.MAC, m.Number), ID: m.Number, MAC: m.MAC, Card: firstCard, Note: m.Note}
		if len(m.Addresses) > 0 {
			r.Address = m.Addresses[0].Addr().String()
		}
		at[m.Number] = len(out)
		out = append(out, r)
	}
	for _, n := range here {
		if n.Stage != wire.RunRAM || !n.live() {
			continue
		}
		i, known := at[n.Number]
		if !known {
			i, out = len(out), append(out, render.Machine{Name: g.nameOf(n.MAC, n.id()), ID: n.id(), MAC: n.MAC, Card: firstCard})
		}
		out[i].ID = n.id()
		if n.Card != "" {
			out[i].Card = n.Card
		}
		if out[i].Address == "" {
			out[i].Address = host(n.Addr)
		}
	}
	slices.SortFunc(out, func(a, b render.Machine) int { return a.ID - b.ID })
	return out
}

// id is what a machine's node_id is: its boot line's, else its number here.
func (n *Node) id() int {
	if n.NodeID != 0 {
		return n.NodeID
	}
	return n.Number
}

func (g *guests) named(mac string) *Named {
	c := CloneConfig{Named: g.Named}
	return c.named(mac)
}

// nameOf is what a machine is called: by the nodes file, or by its number.
func (g *guests) nameOf(mac string, id int) string {
	if m := g.named(mac); m != nil && m.Name != "" {
		return m.Name
	}
	return hostname(g.Hostname, id)
}

// tell says to a machine who it is, and tells whether that went well; the
// deployment's lock is held.
func (d *deployment) tell(n *Node) bool {
	g := d.guests
	run := wire.Run{Hostname: g.nameOf(n.MAC, n.id()), NodeID: n.id(), Networks: (&CloneConfig{Named: g.Named}).identity(n.MAC, n.Number).Networks}
	list := g.machines(d.nodes)
	self := slices.IndexFunc(list, func(m render.Machine) bool { return m.MAC == n.MAC && m.ID == n.id() })
	var err error
	if self < 0 {
		err = fmt.Errorf("machine %s is not among its own", n.MAC)
	} else {
		run.Files, err = g.set.For(render.Cluster{Session: g.Session, Nodes: list, Node: list[self]})
	}
	if err != nil {
		d.fail(n, notLost, "waiting", err.Error())
		n.Tell(wire.Order{Stop: err.Error()})
		return false
	}
	n.Tell(wire.Order{Run: &run})
	return true
}

// stay tells whether the session goes on when all have what they came for.
func (g *guests) stay() bool { return g != nil && g.Stay }

// label puts down who a machine is.
func (d *deployment) label(r *NodeResult) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, g := d.current(r.Number), d.guests
	if n == nil || n.Stage != wire.RunRAM {
		return
	}
	r.Hostname = g.nameOf(n.MAC, n.id())
	if m := g.named(n.MAC); m != nil {
		r.Label = m.Note
		for _, a := range m.Addresses {
			r.Fixed = append(r.Fixed, a.Addr().String())
		}
	}
}

// boot makes the boot servers.
func (g *guests) boot(h *hub) (bootServers, error) {
	cfg, err := g.Boot.config(h, g.Log)
	if err != nil {
		return nil, err
	}
	cfg.Decide = g.decide
	cfg.Event = func(e netboot.Event) {
		g.Log.Debug(e.What, "mac", e.MAC, "ip", e.IP, "file", e.Name, "bytes", e.Bytes)
	}
	return g.Boot.servers(cfg, h.addrs, func(c *netboot.Config, addr netip.Addr) error {
		c.Append = strings.Join(g.words(addr, h.port), " ")
		return nil
	}, g.Log)
}

// words are what stage 1 hears on its kernel command line. The system that is
// run hears them too: its network card keeps the name that the templates have.
func (g *guests) words(addr netip.Addr, port int) []string {
	w := []string{
		fmt.Sprintf("ka.server=%s", netip.AddrPortFrom(addr, uint16(port))),
		"ka.token=" + g.Token, "kaopt=" + g.Session, "ka.run=" + wire.RunRAM, "net.ifnames=0",
	}
	if g.Swap {
		w = append(w, "ka.swap="+wire.SwapLocal)
	}
	return w
}

// decide answers the boot servers: the machines that are named, or else the
// first so many that ask, run what we send; any other has its own disk. A
// machine may boot again as often as it likes.
func (g *guests) decide(c netboot.Client) netboot.Answer {
	mac := c.MAC.String()
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.expire(now)
	had, ours := g.has[mac]
	switch {
	case slices.Contains(g.own, mac):
		return netboot.Silent
	case ours:
	case len(g.Boot.MACs) > 0:
		ours = g.listed(mac)
	default:
		ours = len(g.has) < g.Nodes
	}
	switch {
	case ours && c.Loading: // who only looks for a boot server may go to another one yet
		if g.has == nil {
			g.has = map[string]place{}
		}
		g.has[mac] = place{since: now, here: had.here}
	case ours:
	case c.Loading || g.Boot.DHCP == netboot.DHCPFull:
		return netboot.LocalBoot
	default:
		return netboot.Silent
	}
	return netboot.BootImage
}

// reruns tells whether a machine that ran begins anew: its memory is empty.
func reruns(stage string, old *Node) bool {
	return old != nil && stage == wire.RunRAM && old.Stage == wire.RunRAM && old.State() == status.Released
}

// mayRun refuses machines that don't run what is sent here.
func (g *guests) mayRun(mac string) error {
	if g == nil {
		return errors.New("this session sends to karecv only; golden-serve run or send runs in memory")
	}
	if g.Boot != nil && len(g.Boot.MACs) > 0 && !g.listed(mac) {
		return fmt.Errorf("machine %s is not on the list of machines that run this", mac)
	}
	return nil
}

// holds: the machine is on the list, or was given the image.
func (g *guests) holds(mac string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expire(time.Now())
	_, ours := g.has[mac]
	return ours || g.listed(mac)
}

// listed: the administrator has named the machine.
func (g *guests) listed(mac string) bool {
	return slices.ContainsFunc(g.Boot.MACs, func(s string) bool { m, err := roster.ParseMAC(s); return err == nil && m == mac })
}

// Runnable refuses what no machine can run, before any is booted: a folder
// without an init, a file that is no image.
func Runnable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return runnableImage(path)
	}
	for _, name := range []string{"sbin/init", "etc/init", "bin/init", "lib/systemd/systemd", "usr/lib/systemd/systemd", "init"} {
		if _, err := os.Lstat(filepath.Join(path, name)); err == nil { // a link's target is the node's to find
			return nil
		}
	}
	return fmt.Errorf("%s can't be run: it has no init (/sbin/init, /lib/systemd/systemd, ...)", path)
}

// runnableImage knows a squashfs, and an ext2, ext3 or ext4 (its super block is
// at 1024, the magic 56 bytes behind: fs/ext4/ext4.h), by their first bytes.
func runnableImage(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 1024+58)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	switch {
	case n >= 4 && string(head[:4]) == "hsqs":
		return nil
	case n == len(head) && head[1024+56] == 0x53 && head[1024+57] == 0xef:
		return nil
	}
	return fmt.Errorf("%s can't be run: it is neither a folder nor a squashfs, ext2, ext3 or ext4 image", path)
}
