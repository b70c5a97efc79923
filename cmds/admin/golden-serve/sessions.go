package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kamethod/kamethod/golden"
)

const sessionsText = `Run several sessions side by side: one golden-serve with one control port and one
set of boot servers, and a list of deployments, each with its own machines,
source, name and report. A machine boots and takes part in the session that
names it, and in no other; one that none names gets nothing.

  images: /srv/images              # for all sessions
  dhcp: full
  deployments:
    - session: room1               # as golden-serve clone -s room1
      macs: [52:54:00:00:00:01, 52:54:00:00:00:02]
      root: /srv/golden/room1
      partition: sda=/srv/room1/desc
      yes: true
    - session: tapes               # as golden-serve send -s tapes -n 4 PATH
      send: /srv/tapes.img
      nodes: 4

The words are the long names of the options of clone and send; those of the
network and of the boot servers stand at the top, once for all. A list repeats
an option. macs is a list of network card addresses, or a file with them; where
several sessions clone, each names its machines with macs or nodes-file.
Files are named as on a command line started here. The verbs go, status, nodes,
arm, disarm and exec take the session's name by -s.

EXIT STATUS
  0    all nodes of all sessions are done and verified
  1    some nodes failed, or a session did while others were carried out
  2    nothing was started: usage, a fault in the file, or a plan that is refused
  130  interrupted; every node was told
`

// sharedWords are the options that several sessions of one golden-serve have
// in common: they are of the port, the network and the boot servers.
func sharedWords() []string {
	return []string{"interface", "port", "images", "tftp-root", "dhcp", "from", "to", "router", "dns", "domain", "subnet", "fixed", "force",
		"http-port", "boot-file", "option43", "console", "verbose"}
}

// ownVerbs are options that have no place in a file of sessions.
func ownVerbs() []string { return []string{"session", "output", "cpuprofile", "help"} }

type sessionsFlags struct {
	output string
	check  bool
}

func sessionsCommand() *cobra.Command {
	var o sessionsFlags
	c := &cobra.Command{
		Use:   "sessions FILE",
		Short: "Run several sessions side by side, each with its own machines",
		Long:  sessionsText,
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
	}
	c.Flags().BoolVar(&o.check, "check", false, "only check the file, and the lists of machines that it names")
	c.Flags().StringVarP(&o.output, "output", "o", "", "json: print how all sessions came out on standard output")
	return c
}

// session is one of the file.
type session struct {
	name  string
	path  string // of what is sent; empty: it is a clone
	clone cloneFlags
	send  sendFlags
	out   *prefixed
	job   golden.Job
	done  func()

	outcome golden.Outcome
	err     error
}

func (o *sessionsFlags) run(ctx context.Context, file string) error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q: want json", o.output)
	}
	list, err := readSessions(file)
	if err != nil {
		return err
	}
	if o.check {
		fmt.Fprintf(os.Stderr, "%s: %d sessions, nothing is wrong with them\n", file, len(list))
		return nil
	}
	var open closers
	defer func() { open.close() }()
	for _, s := range list {
		if err := s.prepare(ctx); err != nil {
			return fmt.Errorf("session %s: %w", s.name, err)
		}
		open.add(closer(s.done))
	}
	jobs := make([]golden.Job, len(list))
	for i, s := range list {
		jobs[i] = s.job
	}
	log := newLog(list[0].out.shared.prefixed(""), list[0].clone.verbose) // a word of all sessions
	err = golden.Several(ctx, log, jobs, func(i int, out golden.Outcome) { list[i].conclude(out) })
	if err != nil {
		return err
	}
	return errors.Join(o.print(list), verdict(list))
}

// closer is a function that closes.
type closer func()

func (c closer) Close() error { c(); return nil }

// readSessions makes the flags of each deployment of a file.
func readSessions(file string) ([]*session, error) {
	f, err := golden.ReadSessions(file)
	if err != nil {
		return nil, err
	}
	var list []*session
	var clones []*session
	out := &shared{w: os.Stderr}
	for _, d := range f.Deployments {
		s := &session{name: d.Session, path: d.Send, out: out.prefixed(d.Session + ": ")}
		if err := s.set(f.Shared, d); err != nil {
			return nil, err
		}
		if list = append(list, s); s.path == "" {
			clones = append(clones, s)
		} else if _, err := os.Stat(s.path); err != nil {
			return nil, fmt.Errorf("%s: session %s: %w", file, s.name, err)
		}
	}
	return list, apart(file, clones)
}

// apart refuses sessions of which one could take another's machine.
func apart(file string, clones []*session) error {
	owner := map[string]string{}
	for _, s := range clones {
		macs, err := s.machines()
		if err != nil {
			return fmt.Errorf("%s: session %s: %w", file, s.name, err)
		}
		if len(clones) > 1 && len(macs) == 0 {
			return fmt.Errorf("%s: session %s names no machines: several sessions clone, so each needs macs or nodes-file", file, s.name)
		}
		for _, mac := range macs {
			if o := owner[mac]; o != "" && o != s.name {
				return fmt.Errorf("%s: machine %s is of two sessions: %s and %s", file, mac, o, s.name)
			}
			owner[mac] = s.name
		}
	}
	return nil
}

// machines are those that a clone names, here or in a file of its own.
func (s *session) machines() ([]string, error) {
	if len(s.clone.macList) > 0 && s.clone.who.nodes != "" {
		return nil, errors.New("macs and nodes-file both name the machines: give one of them")
	}
	if err := s.clone.readNodes(); err != nil {
		return nil, err
	}
	b, err := s.clone.boot()
	for i, mac := range b.MACs {
		if hw, err := net.ParseMAC(mac); err == nil { // else it is refused later, with its place
			b.MACs[i] = hw.String()
		}
	}
	return b.MACs, err
}

// set gives the words of the file to the flags.
func (s *session) set(shared []golden.SessionWord, d golden.SessionOf) error {
	all := s.clone.command().Flags() // knows all words that may be shared
	flags, verb, c := all, "clone", &s.clone.common
	if s.path != "" {
		flags, verb, c = s.send.command().Flags(), "send", &s.send.common
	}
	for _, w := range shared {
		if !slices.Contains(sharedWords(), w.Name) {
			return w.Errorf("is no option of all sessions: these are %s", strings.Join(sharedWords(), ", "))
		}
		if err := setWord(all, w); err != nil {
			return err
		}
		if flags != all && flags.Lookup(w.Name) != nil {
			if err := setWord(flags, w); err != nil {
				return err
			}
		}
	}
	for _, w := range d.Words {
		if slices.Contains(sharedWords(), w.Name) {
			return w.Errorf("is for all sessions of this golden-serve: it belongs at the top")
		}
		if flags.Lookup(w.Name) == nil || slices.Contains(ownVerbs(), w.Name) {
			return w.Errorf("no such option of golden-serve %s in a file of sessions", verb)
		}
		if err := setWord(flags, w); err != nil {
			return err
		}
	}
	c.session, c.out = s.name, s.out
	s.clone.macList = d.MACs
	if c.nodes == 0 && len(d.MACs) > 0 {
		c.nodes = len(d.MACs)
	}
	return nil
}

func setWord(f *pflag.FlagSet, w golden.SessionWord) error {
	flag := f.Lookup(w.Name)
	if _, several := flag.Value.(pflag.SliceValue); !several && len(w.Values) > 1 {
		return w.Errorf("%d values: want one", len(w.Values))
	}
	for _, v := range w.Values {
		if err := f.Set(w.Name, v); err != nil {
			return w.Errorf("%w", err)
		}
	}
	return nil
}

// prepare looks at what the session is about.
func (s *session) prepare(ctx context.Context) error {
	if s.path == "" {
		c, done, err := s.clone.prepare(ctx)
		if err != nil {
			return err
		}
		plainView(s.out, s.clone.verbose).show(&c)
		s.job, s.done = golden.Job{Clone: &c}, done
		return nil
	}
	cfg, src, err := s.send.prepareSend(ctx, s.path)
	if err != nil {
		return err
	}
	v := plainView(s.out, s.send.verbose)
	cfg.Watch, cfg.Log = v.watch, v.log
	s.job = golden.Job{Run: &golden.RunConfig{Config: cfg, Source: src, Open: s.send.open}}
	s.done = func() { src.Close() }
	return nil
}

// conclude says how the session came out, while others may go on.
func (s *session) conclude(out golden.Outcome) {
	s.outcome = out
	if s.path == "" {
		s.err = s.clone.conclude(out.Result, out.Err)
	} else {
		s.err = s.send.concludeSend(out.Result, out.Err)
	}
	if s.err != nil {
		fmt.Fprintln(s.out, s.err)
	}
}

// verdict is the worst that became of a session. That one didn't begin is no
// "nothing was started" where another did.
func verdict(list []*session) error {
	var errs []error
	begun := false
	for _, s := range list {
		begun = begun || s.err == nil || errors.As(s.err, new(failed))
		if s.err != nil {
			errs = append(errs, fmt.Errorf("session %s: %w", s.name, s.err))
		}
	}
	if len(errs) == 0 {
		fmt.Fprintf(os.Stderr, "all %d sessions are done\n", len(list))
		return nil
	}
	err := errors.Join(errs...)
	if begun {
		return failed{err}
	}
	return err
}

// print writes all results as JSON.
func (o *sessionsFlags) print(list []*session) error {
	if o.output == "" {
		return nil
	}
	type line struct {
		golden.Result
		Error string `json:"error,omitempty"`
	}
	all := []line{}
	for _, s := range list {
		l := line{Result: s.outcome.Result}
		if l.Session = s.name; s.err != nil {
			l.Error = s.err.Error()
		}
		all = append(all, l)
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "\t")
	return e.Encode(all)
}
