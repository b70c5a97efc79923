package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kamethod/kamethod/images/bench/figures"
	"github.com/kamethod/kamethod/images/bench/lab"
	"github.com/kamethod/kamethod/images/bench/peers"
)

// run is one run of the benchmark.
type run struct {
	options
	sizes
	dir    string // in memory
	begun  time.Time
	rooms  int
	report *figures.Report
	log    io.Writer
}

// sizes are how much is measured.
type sizes struct {
	big       int64 // a, e
	crowd     []int // a: receivers
	slow      string
	slowSize  int64 // b
	slowCrowd []int // b
	rootCrowd []int // c
	files     int   // d
	folders   int
	growing   []int64 // f: sources
	members   []int   // f: receivers
	iperf     int     // seconds
}

var (
	full = sizes{
		big: 1 << 30, crowd: []int{1, 2, 4, 8},
		slow: "200mbit", slowSize: 256 << 20, slowCrowd: []int{1, 4, 16},
		rootCrowd: []int{1, 4}, files: 100_000, folders: 1000,
		growing: []int64{256 << 20, 1 << 30, 4 << 30}, members: []int{1, 4, 16},
		iperf: 5,
	}
	quick = sizes{
		big: 24 << 20, crowd: []int{2},
		slow: "400mbit", slowSize: 16 << 20, slowCrowd: []int{1, 3},
		rootCrowd: []int{2}, files: 1000, folders: 20,
		growing: []int64{8 << 20, 24 << 20}, members: []int{1, 2},
		iperf: 1,
	}
)

// errTargets is what --strict makes of a missed target.
var errTargets = errors.New("a target is missed")

func bench(ctx context.Context, o options, stdout, stderr io.Writer) error {
	dir, clean, err := lab.WorkDir()
	if err != nil {
		return err
	}
	defer clean()
	r := &run{options: o, sizes: full, dir: dir, begun: time.Now(), log: stderr,
		report: &figures.Report{Date: time.Now(), Quick: o.quick, Machine: machine()}}
	if o.quick {
		r.sizes = quick
	}
	if r.top, err = filepath.Abs(o.top); err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	err = r.parts(ctx)
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	r.report.Note("all files, sources and copies, are on a tmpfs; the hosts are namespaces of one machine and share its processors")
	r.report.Note("kamethod hashes each piece at each hop and, in rows with TLS, encrypts each hop; iperf3, udpcast, socat and tar do neither")
	r.report.Seconds = time.Since(r.begun).Seconds()
	r.report.Judge()
	if r.json, _ = filepath.Abs(r.json); true {
		err = errors.Join(err, r.report.Print(stdout), r.report.Check(), r.report.Save(r.json))
	}
	fmt.Fprintln(stdout, "figures:", r.json)
	if err == nil && o.strict && r.report.Missed() > 0 {
		return fmt.Errorf("%w: %d of %d", errTargets, r.report.Missed(), len(r.report.Targets))
	}
	return err
}

// parts runs what is asked for. A part that fails doesn't keep the others
// from being measured.
func (r *run) parts(ctx context.Context) error {
	all := map[rune]func(context.Context) error{
		'a': r.unshaped, 'b': r.slowLinks, 'c': r.rootTree, 'd': r.smallFiles, 'e': r.relayCPU, 'f': r.memory, 'g': r.inProcess,
		'h': r.netboot,
	}
	var errs []error
	for _, letter := range r.options.parts {
		r.say("part %c", letter)
		if err := all[letter](ctx); err != nil {
			errs = append(errs, fmt.Errorf("part %c: %w", letter, err))
			r.report.Note("part %c is not whole: %s", letter, firstLine(err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.log, "bench: %4.0f s  %s\n", time.Since(r.begun).Seconds(), fmt.Sprintf(format, args...))
}

// build makes the two programs as they are shipped.
func (r *run) build(ctx context.Context) error {
	if r.bin != "" {
		var err error
		r.bin, err = filepath.Abs(r.bin)
		return err
	}
	r.say("building golden-serve and karecv")
	r.bin = filepath.Join(r.dir, "bin")
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", r.bin+"/", "./cmds/admin/golden-serve", "./cmds/node/stage1/karecv")
	cmd.Dir = r.top
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

// room makes a room and calls f in it.
func (r *run) room(ctx context.Context, hosts int, rate string, f func(*lab.Room) error) error {
	r.rooms++
	room, err := lab.New(ctx, r.dir, r.rooms, hosts, rate)
	if err != nil {
		return err
	}
	return errors.Join(f(room), room.Close())
}

// source has f use a source that is made before and removed after.
func (r *run) source(name string, fill func(path string) error, f func(peers.Source) error) error {
	path := filepath.Join(r.dir, name)
	defer os.RemoveAll(path)
	if err := fill(path); err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at the source: %w", err)
	}
	n, err := peers.Size(path)
	if err != nil {
		return fmt.Errorf("count the source: %w", err)
	}
	return f(peers.Source{Path: path, Bytes: n, Tree: st.IsDir()})
}

// fits is whether so many bytes can be put into memory, with 2 GiB left to
// the programs; if not it leaves a note.
func (r *run) fits(what string, bytes int64) bool {
	have, err := lab.Available()
	if err == nil && have >= bytes+2<<30 {
		return true
	}
	r.report.Note("%s: not measured: needs %d MiB of memory and 2 GiB to spare, there are %d MiB", what, bytes>>20, have>>20)
	return false
}
