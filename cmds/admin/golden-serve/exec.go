package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
)

func execCommand() *cobra.Command {
	var o execFlags
	c := &cobra.Command{
		Use:   "exec all|NODE[,NODE]… -- COMMAND [ARGUMENT]…",
		Short: "Run a command on nodes in stage 2, and print what they answer as it comes",
		Long: "Run a command on nodes of a golden-serve that runs, and print what they answer as it\n" +
			"comes, each line after the node's name:\n\n" +
			"  golden-serve exec all -- uptime\n" +
			"  golden-serve exec node3,52:54:00:12:34:56 -- sh -c 'dmesg | tail'\n\n" +
			"NODE is a number, a name (node3), an address or that of a network card. It reaches nodes\n" +
			"in stage 2: waiting, being cloned, done and held, or failed with a shell kept. There is no\n" +
			"shell but the one that you name, and no standard input. Golden tells the first 32 nodes,\n" +
			"and these the others. ^C ends the command on all nodes.\n" +
			"\nEXIT STATUS\n  0    it ended with 0 on all nodes\n  1    it did not on some; each is named\n" +
			"  2    nothing was run: usage, no such session or node\n  130  interrupted; every node was told\n",
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); n != 1 || len(args) < 2 {
				return errors.New("want: exec all|NODE[,NODE]… -- COMMAND [ARGUMENT]…")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0], args[1:]) },
	}
	o.add(c)
	f := c.Flags()
	f.DurationVar(&o.limit, "timeout", 10*time.Minute, "a command that takes longer is ended")
	f.BoolVar(&o.direct, "direct", false, "golden tells every node itself: no tree")
	f.StringVarP(&o.output, "output", "o", "", "json: one value a line, output as base64")
	return c
}

type execFlags struct {
	admin
	limit  time.Duration
	direct bool
}

func (o *execFlags) run(ctx context.Context, nodes string, argv []string) error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q: want json", o.output)
	}
	a, err := o.client()
	if err != nil {
		return err
	}
	p := &answers{out: os.Stdout, err: os.Stderr, json: o.output == "json", lines: map[lineKey][]byte{}}
	err = a.Exec(ctx, golden.ExecRequest{Nodes: strings.Split(nodes, ","), Argv: argv, Limit: o.limit, Direct: o.direct}, p.take)
	p.flush()
	switch {
	case errors.Is(err, golden.ErrNoNode):
		return err
	case err != nil:
		return failed{err}
	case p.failed > 0:
		return failed{fmt.Errorf("%d of %d nodes failed", p.failed, p.nodes)}
	}
	return nil
}

// answers prints what nodes say, line by line.
type answers struct {
	out, err io.Writer
	json     bool
	lines    map[lineKey][]byte // what has no end yet
	nodes    int
	failed   int
}

type lineKey struct {
	node string
	err  bool
}

// maxAnswerLine is where a line is cut that doesn't end.
const maxAnswerLine = 64 << 10

func (p *answers) take(v golden.ExecEvent) error {
	p.nodes += v.Nodes
	if v.Last && (v.Exit == nil || v.Exit.Code != 0 || v.Exit.Error != "") {
		p.failed++
	}
	if p.json {
		return json.NewEncoder(p.out).Encode(v)
	}
	if v.Nodes > 0 {
		return nil
	}
	key := lineKey{v.Node, v.Err}
	p.lines[key] = append(p.lines[key], v.Out...)
	for {
		line, rest, whole := bytes.Cut(p.lines[key], []byte("\n"))
		if !whole && len(line) < maxAnswerLine {
			break
		}
		if !whole {
			line, rest = line[:maxAnswerLine], line[maxAnswerLine:]
		}
		p.lines[key] = rest
		if err := p.print(key, line); err != nil {
			return err
		}
	}
	if !v.Last && v.Lost == "" {
		return nil
	}
	for _, key := range []lineKey{{v.Node, false}, {v.Node, true}} {
		if err := p.rest(key); err != nil {
			return err
		}
	}
	if how := howEnded(v); how != "" {
		_, err := fmt.Fprintf(p.err, "%s: %s\n", v.Node, how)
		return err
	}
	return nil
}

// rest prints a last line that has no end.
func (p *answers) rest(key lineKey) error {
	line := p.lines[key]
	delete(p.lines, key)
	if len(line) == 0 {
		return nil
	}
	return p.print(key, line)
}

func (p *answers) flush() {
	for key := range p.lines {
		_ = p.rest(key) // the end is near, and says more
	}
}

func (p *answers) print(key lineKey, line []byte) error {
	w := p.out
	if key.err {
		w = p.err
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", key.node, showable(bytes.TrimSuffix(line, []byte("\r"))))
	return err
}

// howEnded says what is to be said of a node's end; nothing, when all is well.
func howEnded(v golden.ExecEvent) string {
	switch x := v.Exit; {
	case v.Lost != "" && v.Last:
		return "lost: " + v.Lost
	case v.Lost != "":
		return v.Lost
	case x == nil:
		return ""
	case x.Error != "":
		return x.Error
	case x.Signal != "":
		return "killed by a signal: " + x.Signal
	case x.Code != 0:
		return fmt.Sprintf("exit status %d", x.Code)
	}
	return ""
}

// showable escapes what would steer the terminal: nodes say it.
func showable(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&s, `\x%02x`, b[0])
		case r == '\t' || unicode.IsPrint(r):
			s.WriteRune(r)
		default:
			fmt.Fprintf(&s, `\u%04x`, r)
		}
		b = b[n:]
	}
	return s.String()
}
