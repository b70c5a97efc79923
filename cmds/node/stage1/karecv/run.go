package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/cmds/node/internal/restore"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

type options struct {
	session, host, out, pin, token, profile string
	port                                    int
	plain, verbose, update                  bool
	wait, goldenWait                        time.Duration
}

// hidden is a flag for developers.
const hidden = "cpuprofile"

func flags(o *options) *flag.FlagSet {
	f := flag.NewFlagSet("karecv", flag.ContinueOnError)
	f.StringVar(&o.session, "s", join.DefaultSession, "`name` of the session")
	f.StringVar(&o.host, "h", "", "the golden `host`, or host:port; without it the network is asked")
	f.StringVar(&o.out, "out", "", "`path` of the file, device or folder to write; default: its name on the golden side, here")
	f.StringVar(&o.pin, "key", filepath.Join(trust.Dir(), trust.PinFile), "`file` with the golden node's public key, or the key itself (sha256:…)")
	f.StringVar(&o.token, "token", filepath.Join(trust.Dir(), trust.TokenFile), "`file` with the golden node's join token, or the token itself")
	f.IntVar(&o.port, "port", 0, "`port` to take data on; default 30764, or any other when that is taken")
	f.BoolVar(&o.plain, "plain", false, "let the data come without TLS, when golden sends it so")
	f.BoolVar(&o.update, "update", false, "what is in --out already is an older copy, or half of one: only what differs is sent; files in a folder that golden hasn't are removed")
	f.BoolVar(&o.verbose, "v", false, "say more")
	f.DurationVar(&o.wait, "wait", time.Minute, "how long to look for the golden node")
	f.DurationVar(&o.goldenWait, "golden-wait", join.DefaultWait, "how long to wait for a golden node that is lost on the way")
	f.StringVar(&o.profile, hidden, "", "write a profile of the processor's time to this `file`")
	f.Usage = func() {
		fmt.Fprint(f.Output(), "karecv: receive what golden-serve send sends, and pass it on\n\n"+
			"Usage: karecv [-s NAME] [-h HOST] [--plain] [--update] [--out PATH]\n\n")
		shown := flag.NewFlagSet("", flag.ContinueOnError)
		shown.SetOutput(f.Output())
		f.VisitAll(func(x *flag.Flag) {
			if x.Name != hidden {
				shown.Var(x.Value, x.Name, x.Usage)
			}
		})
		shown.PrintDefaults()
		fmt.Fprint(f.Output(), "\nEXIT STATUS\n  0  all is here and its hash is golden's\n"+
			"  1  it is not; the cause is named; or golden's files changed all the time while they were sent\n"+
			"  2  nothing was started: usage, no golden node, or it refuses (the session is full)\n")
	}
	return f
}

// notStarted is a failure before anything was written.
type notStarted struct{ error }

func (e notStarted) Unwrap() error { return e.error }

func status(err error) int {
	var n notStarted
	if errors.As(err, &n) {
		return 2
	}
	return 1
}

func run(ctx context.Context, o options, args []string, stderr io.Writer) error {
	if len(args) > 0 {
		return notStarted{fmt.Errorf("unexpected argument %q: give the path with --out", args[0])}
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	c := join.Config{
		Server: o.host, Session: o.session, Stage: wire.Receive, DataPort: o.port, UUID: place(o.out),
		Holds: o.update, Wait: o.goldenWait, Say: func(line string) { fmt.Fprintln(stderr, "karecv:", line) },
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	c.Hostname, _ = os.Hostname()
	stop, err := profile(o.profile)
	if err != nil {
		return notStarted{err}
	}
	defer stop()
	if c.Pin, err = readPin(o.pin); err != nil {
		return notStarted{err}
	}
	if c.Token, err = readToken(o.token); err != nil {
		return notStarted{err}
	}
	s, err := register(ctx, c, o.wait, stderr)
	if err != nil {
		return notStarted{err}
	}
	defer s.Close()
	return receive(ctx, s, o, stderr)
}

// place names what is written, so that golden tells several receivers on a
// host apart, and knows one again that was started anew.
func place(out string) string {
	path, err := filepath.Abs(out)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:8])
}

// profile writes what the processor does until stop is called.
func profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

func readPin(arg string) (trust.Pin, error) {
	if strings.HasPrefix(arg, "sha256:") {
		return trust.ParsePin(arg)
	}
	return trust.ReadPin(arg)
}

func readToken(arg string) (string, error) {
	b, err := os.ReadFile(arg)
	if errors.Is(err, os.ErrNotExist) && !strings.Contains(arg, "/") {
		return arg, nil
	}
	if err != nil {
		return "", fmt.Errorf("read the join token: %w: copy %s of the golden node here, or give it with --token", err, trust.TokenFile)
	}
	return strings.TrimSpace(string(b)), nil
}

// register looks for the golden node until it is there or wait is over.
func register(ctx context.Context, c join.Config, wait time.Duration, stderr io.Writer) (*join.Session, error) {
	until := time.Now().Add(wait)
	for told := false; ; told = true {
		s, err := join.Register(ctx, c)
		if !errors.Is(err, join.ErrNoServer) || time.Now().After(until) || ctx.Err() != nil {
			return s, err
		}
		if !told {
			fmt.Fprintf(stderr, "karecv: waiting for a golden node: %v\n", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// sink is where the pieces go, image or tree.
type sink interface {
	chain.Sink
	Finish(context.Context) error
	Close() error
}

func receive(ctx context.Context, s *join.Session, o options, stderr io.Writer) error {
	fmt.Fprintf(stderr, "karecv: golden node %s, this is receiver %d of session %s\n", s.Server, s.Number(), o.session)
	order, err := s.NextTransfer(ctx)
	if err != nil {
		return notStarted{err}
	}
	if order.Plain && !o.plain {
		err := errors.New("golden sends without TLS: give --plain here too, or take it away there")
		s.Fail("receiving", err)
		return notStarted{err}
	}
	path, err := target(o.out, order.Streams)
	if err != nil {
		s.Fail("receiving", err)
		return notStarted{err}
	}
	dst, holder, err := open(path, order.Streams, o.update)
	if err != nil {
		s.Fail("receiving", err)
		return notStarted{err}
	}
	defer dst.Close()
	out := &counted{sink: dst}
	stop := progress(stderr, order.Streams, out)
	begun := time.Now()
	err = s.Receive(ctx, order, out, holder, func(ctx context.Context) error {
		if err := out.Finish(ctx); err != nil {
			return err
		}
		s.Report(wire.Report{Done: &wire.Done{}})
		return nil
	})
	stop()
	if err != nil {
		s.Fail("receiving", err)
		return err
	}
	verdict, err := s.NextRelease(ctx)
	if err != nil {
		return fmt.Errorf("wait for golden's verdict: %w", err)
	}
	n, d := total(order.Streams), time.Since(begun).Seconds()
	fmt.Fprintf(stderr, "karecv: %s: %d bytes in %.1f s, %.1f MB/s\n", path, n, d, float64(n)/1e6/d)
	if verdict.Torn != "" {
		return fmt.Errorf("%s is here, but it is not one version of what golden has: %s", path, verdict.Torn)
	}
	return nil
}

// target is where to write; a name that golden gives is never a path.
func target(out string, streams []wire.Stream) (string, error) {
	if out != "" {
		return out, nil
	}
	if len(streams) == 0 {
		return "", errors.New("golden sends nothing")
	}
	name := streams[0].Name
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return "", errors.New("golden gives no name for it: give one with --out")
	}
	if _, err := os.Lstat(name); err == nil {
		return "", fmt.Errorf("%s is here already: give a path with --out", name)
	}
	return name, nil
}

// open prepares to write to path. The holder, with update, finds what is
// there already.
func open(path string, streams []wire.Stream, update bool) (sink, chain.Holder, error) {
	if len(streams) == 1 && streams[0].Kind == wire.ImageStream {
		if !update {
			i, err := restore.NewImage(path, streams[0])
			return i, nil, err
		}
		i, err := restore.UpdateImage(path, streams[0])
		return i, i, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, nil, fmt.Errorf("make folder: %w", err)
	}
	t, err := restore.NewTree(path, streams, restore.Options{Update: update})
	if !update {
		return t, nil, err
	}
	return t, t, err
}

func total(streams []wire.Stream) (n int64) {
	for _, s := range streams {
		n += s.Bytes
	}
	return n
}
