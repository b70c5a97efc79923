package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// identityFlags say who the clones become.
type identityFlags struct {
	mode, nodes, post, known string
	scrub                    []string
	noNVRAM                  bool

	named    []golden.Named
	diskless bool // it is golden-serve run's
}

func (o *identityFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.mode, "identity", wire.IdentityClone, "clone: machines of their own; same: this machine's hardware is replaced, and it stays who it is; template: clone, and logs, histories and users' traces go too")
	f.StringVar(&o.nodes, "nodes-file", "", "YAML file with the machines to clone to, and their names and addresses (instead of --macs); -n defaults to their number")
	f.StringSliceVar(&o.scrub, "scrub", nil, "apps: remove what programs know this machine by (kubelet, puppet, Kerberos, subscriptions, ...); else it is only listed")
	f.BoolVar(&o.noNVRAM, "no-nvram", false, "leave the boot entries of the clones' UEFI firmware as they are: it starts the disk by its fallback path, EFI/BOOT")
	f.StringVar(&o.post, "post-dir", "", "folder with programs that run in each clone before its boot loader is written; default: "+filepath.Join(trust.Dir(), "post.d")+" where that is")
	f.StringVar(&o.known, "known-hosts", "", "add the clones' ssh host keys to this file; default: one in "+filepath.Join(stateDir(), "known_hosts"))
}

// readNodes takes in the nodes file, which says how many machines there are.
func (o *cloneFlags) readNodes() error {
	if o.who.nodes == "" {
		return nil
	}
	if o.macs != "" {
		return errors.New("--macs and --nodes-file both name the machines: give one of them")
	}
	var err error
	if o.who.named, err = golden.ReadNodes(o.who.nodes); err != nil {
		return err
	}
	n := len(o.who.taking())
	if n == 0 {
		return fmt.Errorf("%s: %d machines, and none has a label of this session, such as kamethod", o.who.nodes, len(o.who.named))
	}
	if o.nodes == 0 {
		o.nodes = n
	}
	if o.nodes > n {
		return fmt.Errorf("-n %d: %s names %d machines for it", o.nodes, o.who.nodes, n)
	}
	return nil
}

// taking are the machines of the nodes file that the session is for.
func (o *identityFlags) taking() []golden.Named { return golden.TakingPart(o.named, o.diskless) }

// plan puts into a plan what the flags say, and the hooks.
func (o *identityFlags) plan(p *wire.Plan, log *slog.Logger) error {
	p.Identity.Mode, p.Identity.Scrub, p.Identity.NoNVRAM = o.mode, o.scrub, o.noNVRAM
	dir := o.post
	if dir == "" {
		dir = filepath.Join(trust.Dir(), "post.d")
	} else if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("--post-dir: %w", err)
	}
	hooks, passed, err := golden.ReadHooks(dir)
	if err != nil {
		return err
	}
	for _, why := range passed {
		log.Warn("no hook: " + why)
	}
	p.Hooks = hooks
	for _, h := range hooks {
		log.Info("hook runs on each node", "name", h.Name, "bytes", len(h.Content))
	}
	return nil
}

// knownHosts writes the clones' keys, and says where.
func (o *cloneFlags) knownHosts(w io.Writer, r golden.Result) {
	file := o.who.known
	if file == "" {
		file = filepath.Join(stateDir(), "known_hosts", fileName(o.session))
	}
	n, err := golden.KnownHosts(file, r)
	if err != nil {
		fmt.Fprintln(w, "warning:", err)
	} else if n > 0 {
		fmt.Fprintf(w, "ssh host keys of %d clones: %s\n", n, file)
	}
}

// defaultReport is where a clone's report is kept when nobody says: what was
// changed on each node is too much for a screen.
func defaultReport(given, session string, log *slog.Logger) string {
	if given != "" {
		return given
	}
	dir := filepath.Join(stateDir(), "reports")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		log.Warn("what is changed on the nodes is not kept: give --report", "err", err)
		return ""
	}
	return filepath.Join(dir, fileName(session)+".json")
}

// fileName makes one of a session's name, which is one word, and another one of
// each: what would lead out of the folder, or hide the file, is escaped.
func fileName(session string) string {
	name := strings.NewReplacer("%", "%25", "/", "%2F").Replace(session)
	if rest, hidden := strings.CutPrefix(name, "."); hidden {
		return "%2E" + rest
	}
	return name
}

// touched says how much was changed on a node; the report says what.
func touched(w io.Writer, n golden.NodeResult, report string) {
	files, warnings := n.MoreFiles, 0
	for _, s := range n.Steps {
		files += len(s.Files)
		warnings += len(s.Warnings)
	}
	if len(n.Steps) == 0 {
		return
	}
	fmt.Fprintf(w, "  %d files changed, %d warnings, golden is still named in %d places", files, warnings, len(n.Leftovers))
	if report != "" {
		fmt.Fprintf(w, ": %s says which and why", report)
	}
	fmt.Fprintln(w)
}
