package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

type cloneFlags struct {
	common
	flags                       *pflag.FlagSet
	image                       imageFlags
	disk                        diskFlags
	root, hostname, macs        string
	macList                     []string // the same, of the file of golden-serve sessions
	excludes                    []string
	blocks, bootOf, bootFrom    []string
	blocksHow                   string
	noFiles                     bool
	who                         identityFlags
	delay                       int
	dhcp, images, tftp, console string
	from, to, router, domain    string
	dns, subnets                []string
	fixed                       string
	httpPort                    int
	bootFiles                   []string
	option43                    string
	force, yes, update          bool
	linger, armFor              time.Duration
	hold                        bool
}

func cloneCommand() *cobra.Command { return new(cloneFlags).command() }

func (o *cloneFlags) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "clone -n N",
		Short: "Clone this machine, or a root in a folder, to N machines that boot from the network",
		Long: "Clone this machine, or a root in a folder, to N machines that boot from the network.\n" +
			"THE DISKS OF THOSE MACHINES ARE ERASED, after they were listed and you said yes.\n\n" +
			"  golden-serve -n 2 -p sda /tmp/desc -r grub\n",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.profiled(func() error { return o.run(cmd.Context()) })
		},
	}
	f := c.Flags()
	f.SortFlags = false
	o.add(f)
	o.addCapture(f)
	o.image.add(f)
	f.BoolVar(&o.image.noCheck, "no-check", false, "with --image: don't compare its pieces with their hashes before disks are erased; each is compared when it is sent all the same")
	f.IntVarP(&o.delay, "delay", "d", 0, "between the release of two nodes, in tenths of a second")
	f.BoolVar(&o.hold, "hold", false, "nodes that are done, or have failed and kept a shell, wait for golden-serve release")
	f.DurationVar(&o.linger, "linger", 3*time.Minute, "after the release, answer the nodes' network boots with their own disks for so long at most")
	f.StringVar(&o.hostname, "hostname", "node%d", "the clones' names, %d or %03d is the node's number")
	f.DurationVar(&o.armFor, "arm-for", 0, "an armed machine has so long to begin to boot, and as long again to come; default: 30m, or --wait if that is longer")
	f.StringVar(&o.macs, "macs", "", "file with the network card addresses of the machines to clone to, one a line")
	o.who.add(f)
	f.BoolVar(&o.update, "update", false, "machines that hold an earlier clone keep partitions and file systems, if they are the same; only what differs is sent")
	o.addSnapshot(f, "auto")
	f.BoolVar(&o.yes, "yes", false, "erase the disks of the first N machines without asking")
	o.addBoot(f)
	return c
}

// addBoot adds the flags of the verbs that boot machines.
func (o *cloneFlags) addBoot(f *pflag.FlagSet) {
	f.StringVar(&o.dhcp, "dhcp", "proxy", "proxy: beside the network's DHCP server; full: be it; off")
	f.StringVar(&o.from, "from", "", "first address to lease (full); default: the network's upper half")
	f.StringVar(&o.to, "to", "", "last address to lease (full)")
	f.StringVar(&o.router, "router", "", "default gateway to lease (full)")
	f.StringSliceVar(&o.dns, "dns", nil, "name servers to lease (full)")
	f.StringVar(&o.domain, "domain", "", "domain name to lease (full)")
	f.StringVar(&o.fixed, "fixed", "", "file with machines that always get the same address, a line: MAC ADDRESS [NAME] (full)")
	f.StringArrayVar(&o.subnets, "subnet", nil, "network behind a relay: 10.1.0.0/24,FROM-TO,ROUTER (proxy: the network alone); repeated")
	f.BoolVar(&o.force, "force", false, "be the DHCP server although another one answers")
	f.StringVar(&o.images, "images", "images", "folder that make image filled")
	f.StringVar(&o.tftp, "tftp-root", "", "folder with the boot files; default: tftp in --images")
	f.IntVar(&o.httpPort, "http-port", 0, "port for boot files over HTTP; default 8069")
	f.StringArrayVar(&o.bootFiles, "boot-file", nil, "ARCH=FILE: what machines of an architecture (DHCP option 93) boot: 0=pxelinux.0; repeated")
	f.StringVar(&o.option43, "option43", "auto", "auto, always or never: DHCP option 43, which tells firmware to boot from our offer")
	f.StringVar(&o.console, "console", "console=tty0 console=ttyS0,115200", "kernel words for the nodes' consoles")
}

func (o *cloneFlags) run(ctx context.Context) error {
	c, done, err := o.prepare(ctx)
	if err != nil {
		return err
	}
	defer done()
	v := newView(o.verbose)
	v.show(&c)
	r, err := golden.Clone(ctx, c)
	v.stop()
	return o.conclude(r, err)
}

// prepare looks at what is to be cloned, and at everything else that can be
// wrong before a machine comes. done gives back what that took.
func (o *cloneFlags) prepare(ctx context.Context) (c golden.CloneConfig, done func(), err error) {
	var open closers
	defer func() {
		if err != nil {
			open.close()
		}
	}()
	if err := o.readNodes(); err != nil {
		return c, nil, err
	}
	cfg, err := o.config()
	if err != nil {
		return c, nil, err
	}
	token, err := trust.NewToken()
	if err != nil {
		return c, nil, err
	}
	original, err := o.original()
	if err != nil {
		return c, nil, err
	}
	boot, err := o.boot()
	if err != nil {
		return c, nil, err
	}
	boot.LeaseFile = leaseFile(cfg.Log)
	stage2, err := stream.OpenImage(0, filepath.Join(o.images, "rescue.sqfs"))
	if err != nil {
		return c, nil, fmt.Errorf("%w (make image makes it; --images names its folder)", err)
	}
	open.add(stage2)
	d, err := o.describe(ctx, original, cfg.Log)
	if err != nil {
		return c, nil, err
	}
	open.add(d)
	if d.Tree != nil {
		d.Tree.Spool = spoolDir(cfg.Log)
	}
	d.Plan.Update = o.update
	if err := o.who.plan(&d.Plan, cfg.Log); err != nil {
		return c, nil, err
	}
	o.report = defaultReport(o.report, o.session, cfg.Log)
	printPlan(o.stderr(), d)
	if err := o.takeUp(&cfg, d.Source(), token, o.booked(d.Plan)); err != nil {
		return c, nil, err
	}
	return golden.CloneConfig{
		Config: cfg, Boot: boot, Plan: d.Plan, Named: o.who.named, Stage2: stage2, Tree: d.Source(),
		Delay: time.Duration(o.delay) * 100 * time.Millisecond, Linger: o.linger, ArmFor: o.armFor, Hold: o.hold, Confirm: o.confirm,
	}, open.close, nil
}

// conclude says how a clone came out.
func (o *cloneFlags) conclude(r golden.Result, err error) error {
	if o.update && r.Bytes > 0 {
		fmt.Fprintf(o.stderr(), "%s of %s were sent, %s were there already\n", size(r.Sent), size(r.Bytes), size(r.Kept))
	}
	o.knownHosts(o.stderr(), r)
	return o.finish(r, err)
}

// closers are what is open, to be closed in the opposite order.
type closers []io.Closer

func (c *closers) add(x io.Closer) { *c = append(*c, x) }

func (c *closers) close() {
	for _, x := range slices.Backward(*c) {
		x.Close() // was only read
	}
}

// booked is what the book remembers the hash of: a passphrase could be guessed
// from that.
func (o *cloneFlags) booked(p wire.Plan) any {
	p.Secrets = nil
	return []any{p, o.who.named}
}

func (o *cloneFlags) original() (golden.Original, error) {
	g := golden.Original{Root: o.root, Excludes: split(o.excludes), Hostname: o.hostname, Images: o.images}
	if err := o.disk.apply(&g); err != nil {
		return g, err
	}
	if o.plain && len(o.disk.passphrases) > 0 {
		return g, errors.New("--luks-passphrase and --plain: a passphrase is sent to machines that are known to be golden's only: leave --plain out")
	}
	var err error
	if g.Snapshot, err = o.wantsSnapshot(); err != nil {
		return g, err
	}
	// Golden's key commands all nodes, and what it remembers is its own: no
	// clone may have them. An environment may name other folders.
	for _, dir := range []string{trust.Dir(), stateDir(), "/etc/kamethod", "/var/lib/kamethod"} {
		if filepath.IsAbs(dir) && !slices.Contains(g.Excludes, filepath.Clean(dir)) {
			g.Excludes = append(g.Excludes, filepath.Clean(dir))
		}
	}
	if err := o.addBlocks(&g); err != nil {
		return g, err
	}
	return g, nil
}

func (o *cloneFlags) boot() (golden.Boot, error) {
	b := golden.Boot{
		Interfaces: o.ifaces, DHCP: o.dhcp, Domain: o.domain, Force: o.force, Subnets: o.subnets, Fixed: o.fixed,
		TFTPRoot: o.tftp, HTTPPort: o.httpPort, Console: o.console,
		BootFiles: o.bootFiles, Option43: o.option43,
	}
	if o.armFor < 0 {
		return b, fmt.Errorf("--arm-for %s: want a time above 0", o.armFor)
	}
	if b.TFTPRoot == "" {
		b.TFTPRoot = filepath.Join(o.images, "tftp")
	}
	var err error
	for _, a := range []struct {
		what, text string
		to         *netip.Addr
	}{{"--from", o.from, &b.From}, {"--to", o.to, &b.To}, {"--router", o.router, &b.Router}} {
		if *a.to, err = parseAddr(a.what, a.text); err != nil {
			return b, err
		}
	}
	for _, s := range o.dns {
		a, err := parseAddr("--dns", s)
		if err != nil {
			return b, err
		}
		b.DNS = append(b.DNS, a)
	}
	if o.macs != "" {
		b.MACs, err = readMACs(o.macs)
	}
	b.MACs = append(b.MACs, o.macList...)
	for _, m := range o.who.taking() {
		b.MACs = append(b.MACs, m.MAC)
	}
	b.Named = o.who.named
	return b, err
}

// readMACs reads one address a line; # begins a comment.
func readMACs(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 0 {
			out = append(out, f[0])
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no machine", file)
	}
	return out, nil
}

func split(list []string) []string {
	var out []string
	for _, s := range list {
		for _, w := range strings.Split(s, "|") {
			if w = strings.TrimSpace(w); w != "" {
				out = append(out, w)
			}
		}
	}
	return out
}

// errNotConfirmed leaves every disk as it is.
var errNotConfirmed = errors.New("not confirmed: no disk was touched")

// confirm shows whose disks will be erased, and asks, unless the machines were
// named or --yes was given.
func (o *cloneFlags) confirm(nodes []*golden.Node) error {
	fate := "ERASED"
	if o.update {
		fate = "ERASED, or made what this machine is where they hold an earlier clone"
	}
	fmt.Fprintf(o.stderr(), "\nTHE DISKS OF THESE MACHINES WILL BE %s:\n", fate)
	for _, n := range nodes {
		fmt.Fprintf(o.stderr(), "  node %-3d %s  %-21s %s\n", n.Number, n.MAC, n.Addr, disks(n.Disks))
	}
	if o.yes || o.macs != "" || len(o.macList) > 0 || o.who.nodes != "" {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("%w: give --yes, or name the machines with --macs or --nodes-file, where nobody can be asked", errNotConfirmed)
	}
	fmt.Fprint(os.Stderr, "Type yes to go on: ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "yes" {
		return errNotConfirmed
	}
	return nil
}

func disks(list []wire.Device) string {
	var out []string
	for _, d := range list {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Name, size(d.Bytes), d.Model)))
	}
	return strings.Join(out, ", ")
}
