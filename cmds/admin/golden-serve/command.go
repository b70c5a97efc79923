package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

const exitText = `
EXIT STATUS
  0    all nodes are done and verified
  1    some nodes failed; each is named with its stage and cause; or files
       changed all the time while they were copied (--allow-torn: 0)
  2    nothing was started: usage, or a plan that is refused
  130  interrupted; every node was told
`

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "golden-serve",
		Short:         "Turn N bare machines into N copies of this one, in the time of one copy",
		Long:          "Turn N bare machines into N copies of this one, over the network, in the time of one copy.\n\nTHE DISKS OF THE NODES ARE ERASED.\n\nWithout a verb it clones.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(cloneCommand(), sendCommand(), dollyCommand(), saveCommand(), checkImagesCommand(), runCommand(), sessionsCommand(), descCommand(), goCommand(), statusCommand(),
		nodesCommand(), configCommand(), execCommand(), logsCommand(), releaseCommand(), armCommand(), disarmCommand(), doctorCommand())
	for _, c := range root.Commands() {
		if !strings.Contains(c.Long, "EXIT STATUS") {
			c.Long += exitText
		}
	}
	return root
}

// failed is an error after something was started.
type failed struct{ error }

func (f failed) Unwrap() error { return f.error }

func exitStatus(ctx context.Context, err error) int {
	var f failed
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return 130
	case errors.As(err, &f):
		return 1
	}
	return 2
}

// oneWord joins the two-word options of ka-d.sh: "-p sda /tmp/desc" becomes
// "-p sda=/tmp/desc"; -M is the other.
func oneWord(args []string) []string {
	if len(args) > 0 && args[0] == "config" {
		return args // its -p is clone_script's: one address
	}
	if len(args) > 0 && args[0] == "dolly" {
		return withoutServer(args)
	}
	var out []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" { // a command for the nodes
			return append(out, args[i:]...)
		}
		if (args[i] == "-p" || args[i] == "-M") && i+2 < len(args) && !strings.Contains(args[i+1], "=") && !golden.IsLayoutFile(args[i+1]) {
			out = append(out, args[i], args[i+1]+"="+args[i+2])
			i += 2
			continue
		}
		out = append(out, args[i])
	}
	return out
}

// verbFirst puts the verb clone where there is none.
func verbFirst(root *cobra.Command, args []string) []string {
	if len(args) == 0 {
		return args
	}
	switch args[0] {
	case "-h", "--help", "help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
		return args
	}
	for _, c := range root.Commands() {
		if c.Name() == args[0] {
			return args
		}
	}
	if strings.HasPrefix(args[0], "-") {
		return append([]string{"clone"}, args...)
	}
	return args
}

// common are the flags that clone and send share.
type common struct {
	nodes, min, port                 int
	session, iface, compress, report string
	ifaces                           []string // of iface
	wait, quiet                      time.Duration
	share                            float64
	plain, verbose, allowTorn, fresh bool
	output, profile, snapshot        string
	fanout                           int // of exec
	logTo                            logTo
	out                              io.Writer // where it is said how it goes; nil: standard error
}

// stderr is where it is said how a session goes: one of several has a writer
// of its own.
func (o *common) stderr() io.Writer {
	if o.out != nil {
		return o.out
	}
	return os.Stderr
}

func (o *common) add(f *pflag.FlagSet) {
	f.IntVarP(&o.nodes, "nodes", "n", 0, "number of machines (required)")
	f.StringVarP(&o.session, "session", "s", "kamethod", "name of the session")
	f.StringVar(&o.iface, "interface", "", "network interface, or several: eth0,eth1; default: the only one with an address")
	f.IntVar(&o.port, "port", wire.ControlPort, "control port")
	f.DurationVar(&o.wait, "wait", 0, "how long to wait for the machines; default: until they are there")
	f.IntVar(&o.min, "min", 0, "after --wait, start with so many at least; default: all")
	f.BoolVar(&o.fresh, "fresh", false, "begin anew, although an earlier golden-serve of this session was broken off")
	f.BoolVar(&o.allowTorn, "allow-torn", false, "exit status 0 although files changed all the time while they were copied")
	f.BoolVar(&o.plain, "plain", false, "data without TLS (control stays encrypted)")
	f.StringVar(&o.compress, "compress", "auto", "auto, off, or a zstd level from 1 (fastest) to 4 (best)")
	f.Float64Var(&o.share, "share", 0.5, "share of the nodes, above 0 and up to 1, whose disks the sending waits for; the others get more laps")
	f.DurationVar(&o.quiet, "quiet", chain.DefaultQuiet, "a node silent for so long in a transfer is cut out")
	f.IntVar(&o.fanout, "fanout", golden.DefaultFanout, "of golden-serve exec: golden tells so many nodes, and each of these so many others")
	f.StringVar(&o.logTo.ftp, "log-ftp", "", "ftp://[USER[:PASSWORD]@]HOST[/DIR]: each node's log is put there at its end; "+ftpPassword+" may have the password")
	f.StringVar(&o.logTo.syslog, "log-syslog", "", "HOST[:PORT], or tcp://HOST[:PORT]: what nodes say is sent there (RFC 5424)")
	f.StringVar(&o.report, "report", "", "write how each node came out to this file, as JSON")
	f.StringVarP(&o.output, "output", "o", "", "json: print the same on standard output")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say more")
	f.StringVar(&o.profile, "cpuprofile", "", "write a profile of the processor's time to this file")
	if err := f.MarkHidden("cpuprofile"); err != nil {
		panic("BUG: " + err.Error()) // the flag is of the line before
	}
}

// addSnapshot adds the flag of the verbs that read a tree of files.
func (o *common) addSnapshot(f *pflag.FlagSet, value string) {
	f.StringVar(&o.snapshot, "snapshot", value, "auto: read the files from a snapshot where they are on btrfs or LVM, and remove it at the end; off")
}

func (o *common) wantsSnapshot() (bool, error) {
	if o.snapshot != "auto" && o.snapshot != "off" {
		return false, fmt.Errorf("snapshot %q: want auto or off", o.snapshot)
	}
	return o.snapshot == "auto", nil
}

// takeUp finds what an earlier golden-serve left of this session: of the same
// source, and to do the same with it. The token is that one's, or the one
// given.
func (o *common) takeUp(c *golden.Config, src chain.Source, token string, plan any) error {
	c.Token = token
	digest, err := golden.Digest(src)
	if err != nil {
		return err
	}
	what, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("encode the plan: %w", err)
	}
	digest = fmt.Sprintf("%s %x", digest, sha256.Sum256(what))
	if c.Book, err = golden.OpenBook(stateDir(), o.session, digest, o.fresh, c.Log); err == nil {
		c.Token = c.Book.Token(token)
	}
	return err
}

// profiled runs f, and writes what the processor does meanwhile.
func (o *common) profiled(f func() error) error {
	if o.profile == "" {
		return f()
	}
	w, err := os.Create(o.profile)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := pprof.StartCPUProfile(w); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return f()
}

func (o *common) config() (golden.Config, error) {
	c := golden.Config{
		Session: o.session, Nodes: o.nodes, Wait: o.wait, Min: o.min, Control: o.port,
		Plain: o.plain, Quiet: o.quiet, Share: o.share, Log: newLog(o.stderr(), o.verbose),
		Fanout: o.fanout,
	}
	if o.fanout < 1 {
		return c, fmt.Errorf("--fanout %d: want 1 or more", o.fanout)
	}
	if !(o.share > 0 && o.share <= 1) {
		return c, fmt.Errorf("--share %g: want a number above 0 and up to 1", o.share)
	}
	if o.nodes < 1 {
		return c, errors.New("how many machines? give -n N")
	}
	if o.min > o.nodes {
		return c, fmt.Errorf("--min %d is more than -n %d", o.min, o.nodes)
	}
	if o.session == "" || len(o.session) > wire.MaxName || strings.ContainsAny(o.session, " \t\n=,") {
		return c, fmt.Errorf("session name %q: want one word", o.session)
	}
	if o.output != "" && o.output != "json" {
		return c, fmt.Errorf("output %q: want json", o.output)
	}
	var err error
	if c.Logs, err = o.logTo.logs(); err != nil {
		return c, err
	}
	if c.Compress, err = compression(o.compress); err != nil {
		return c, err
	}
	var addrs []netip.Addr
	if o.ifaces, addrs, err = golden.Interfaces(o.iface); err != nil {
		return c, err
	}
	c.Addr, c.More = addrs[0], addrs[1:]
	c.Identity, err = trust.LoadOrCreate(trust.Dir())
	return c, err
}

func compression(s string) (chain.Compression, error) {
	switch s {
	case "auto":
		return chain.CompressAuto, nil
	case "off":
		return chain.CompressOff, nil
	case "1", "2", "3", "4":
		return chain.Compression(s[0] - '0'), nil
	}
	return 0, fmt.Errorf("compress %q: want auto, off, or 1 to 4", s)
}

// stateDir is where state is kept that may be lost: leases.
func stateDir() string {
	if d := os.Getenv("KAMETHOD_STATE"); d != "" {
		return d
	}
	return "/var/lib/kamethod"
}

// spoolDir is where copies of files that change are kept while they are sent;
// empty: where temporary files are.
func spoolDir(log *slog.Logger) string {
	if err := os.MkdirAll(stateDir(), 0o755); err != nil {
		log.Warn("copies of what changes are kept among the temporary files", "err", err)
		return ""
	}
	return stateDir()
}

func leaseFile(log *slog.Logger) string {
	if err := os.MkdirAll(stateDir(), 0o755); err != nil {
		log.Warn("leases are not kept over a restart", "err", err)
		return ""
	}
	return filepath.Join(stateDir(), "leases")
}

func parseAddr(what, s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("%s %q: %w", what, s, err)
	}
	return a, nil
}
