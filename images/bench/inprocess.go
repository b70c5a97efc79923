package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/images/bench/figures"
)

// inProcess is part g: head and nodes in one process, over loopback, without
// a file system. What parts a and e have above it is processes and files.
func (r *run) inProcess(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	args := []string{"test", "-run", "^$", "-bench", "BenchmarkChain", "./golden/chain"}
	if r.quick {
		args = append(args, "-benchtime", "1x")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.WaitDelay = r.top, time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test -bench: %w: %s", err, out)
	}
	lines := parseBench(out)
	one := lines["nodes=1 plain=true"]
	if one == 0 {
		return fmt.Errorf("go test -bench prints no chain of one node:\n%s", out)
	}
	for _, b := range []struct {
		name string
		n    int
		tls  bool
	}{{"nodes=4 plain=true", 4, false}, {"nodes=1 plain=false", 1, true}, {"nodes=4 plain=false", 4, true}} {
		f := figures.Figure{Part: "g", What: "one process, loopback", Receivers: b.n, TLS: b.tls, Unit: "MB/s each", Ours: lines[b.name]}
		r.report.Add(against(f, "1, plain", one))
	}
	return nil
}

// parseBench finds the MB/s of each case of BenchmarkChain:
//
//	BenchmarkChain/nodes=1_plain=true-2    12  90345 ns/op  2971.19 MB/s  0.5 cpu-s/GB
func parseBench(out []byte) map[string]float64 {
	found := map[string]float64{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		name, ok := strings.CutPrefix(s.Text(), "BenchmarkChain/")
		if !ok {
			continue
		}
		words := strings.Fields(name)
		for i, w := range words {
			if w != "MB/s" || i == 0 {
				continue
			}
			if v, err := strconv.ParseFloat(words[i-1], 64); err == nil {
				at := strings.LastIndexByte(words[0], '-') // GOMAXPROCS; left out when it is 1
				if at < 0 {
					at = len(words[0])
				}
				found[strings.ReplaceAll(words[0][:at], "_", " ")] = v
			}
		}
	}
	return found
}

// machine is where this runs; what isn't known is empty.
func machine() (m figures.Machine) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		m.MemoryGB = float64(s.Totalram) * float64(s.Unit) / 1e9
	}
	b, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	m.Congestion = strings.TrimSpace(string(b))
	b, _ = os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "processor":
			m.Processors++
		case "model name":
			m.Model = strings.TrimSpace(value)
		}
	}
	return m
}
