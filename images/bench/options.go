package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

type options struct {
	parts  string // letters
	json   string
	bin    string
	top    string
	quick  bool
	strict bool
	repeat int
}

const allParts = "abcdefgh"

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.parts, "part", allParts, "`parts` to run, such as a or a,b")
	f.StringVar(&o.json, "json", ".cache/bench.json", "write the figures to this `file`")
	f.StringVar(&o.json, "out", ".cache/bench.json", "the same as --json")
	f.StringVar(&o.bin, "bin", "", "`folder` with golden-serve and karecv; default: they are built")
	f.StringVar(&o.top, "top", ".", "`folder` of the repository")
	f.BoolVar(&o.quick, "quick", false, "small sizes: to try the benchmark itself; says nothing about speed")
	f.BoolVar(&o.strict, "strict", false, "exit status 1 if a target is missed")
	f.IntVar(&o.repeat, "repeat", 0, "do each transfer so `often`, in turns, and keep the best; default 2, quick 1")
	f.Usage = func() {
		fmt.Fprint(stderr, "bench: measure the chain beside its peers, between hosts in network namespaces\n\n"+
			"Usage: bench [--part a,b] [--quick] [--json FILE]\n\n"+
			"  a  unshaped, 1 to 8 receivers: iperf3, udpcast, socat and tee\n"+
			"  b  200 Mbit/s, 1 to 16 receivers: iperf3, and time(16)/time(1)\n"+
			"  c  a root file system, compressed, 200 Mbit/s\n"+
			"  d  100,000 small files: tar to tar, 200 Mbit/s and unshaped\n"+
			"  e  processor seconds per GB of a relay\n"+
			"  f  memory of golden and relay, as receivers and source grow\n"+
			"  g  go test -bench Chain, in one process\n"+
			"  h  netboot: DHCP, TFTP and HTTP, beside dnsmasq, tftpd-hpa, nginx\n\n")
		f.PrintDefaults()
		fmt.Fprint(stderr, "\nEXIT STATUS\n  0  all was measured\n  1  something was not, or with --strict a target is missed\n"+
			"  2  usage\n  130  interrupted\n")
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.parts, err = parts(o.parts); err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if err == nil && (o.repeat < 0 || o.repeat > 20) {
		err = fmt.Errorf("--repeat %d: must be 1 to 20", o.repeat)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
	}
	if o.repeat == 0 {
		o.repeat = 2
		if o.quick {
			o.repeat = 1
		}
	}
	return o, err
}

// parts are letters, with or without commas.
func parts(s string) (string, error) {
	s = strings.ReplaceAll(s, ",", "")
	for _, c := range s {
		if !strings.ContainsRune(allParts, c) {
			return "", fmt.Errorf("--part %s: there is no part %q, only %s", s, c, allParts)
		}
	}
	if s == "" {
		return "", errors.New("--part: name at least one of " + allParts)
	}
	return s, nil
}

func usageStatus(err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	return 2
}

func exitStatus(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return 130
	}
	return 1
}
