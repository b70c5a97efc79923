package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/bench/figures"
)

// programs are built once: the benchmark, golden-serve and karecv.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bench-test-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", ".", "../../cmds/admin/golden-serve", "../../cmds/node/stage1/karecv").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("build: %w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Geteuid() == 0 {
		dir, _ := programs()
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// built gives the folder of the programs.
func built(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, dir string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	out := &bytes.Buffer{}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bench"), append([]string{"--top", "../..", "--quick"}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// The benchmark works and has all its figures. How large they are is not
// looked at: the machine may be busy.
func TestQuick(t *testing.T) {
	dir := built(t)
	file := filepath.Join(t.TempDir(), "bench.json")
	cmd, out := start(t, dir, "--part", "abcdefh", "--json", file) // builds the others itself
	if err := cmd.Wait(); err != nil {
		t.Fatalf("bench: %v:\n%s", err, out)
	}
	var r figures.Report
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatalf("read the figures: %v: %s", err, b)
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	for _, want := range []struct {
		part, what, peer string
		tls              bool
		rows             int
	}{
		{"a", figures.Transfer, figures.Iperf3, false, 1},
		{"a", figures.Transfer, figures.Iperf3, true, 1},
		{"a", figures.Transfer, figures.Udpcast, true, 1},
		{"a", figures.Transfer, figures.Chain, false, 1},
		{"b", figures.Transfer, figures.Iperf3, true, 2},
		{"b", figures.Time, figures.One, true, 1},
		{"b", figures.HopTime, "256 KiB on the link", true, 1},
		{"c", "text, no golden root, compress auto", figures.Iperf3, true, 1},
		{"c", "text, no golden root, compress off", figures.Iperf3, true, 1},
		{"d", figures.SmallFiles, figures.Tar, true, 2},
		{"e", figures.RelayCPU + ", incompressible", figures.Chain, false, 1},
		{"e", figures.RelayCPU + ", compressible", figures.Chain, true, 1},
		{"f", figures.HeadRSS, figures.One, true, 2},
		{"f", figures.RelayRSS, figures.Budget, true, 3},
		{"h", figures.DHCPRate, "dnsmasq", false, 1},
		{"h", figures.Storm, "dnsmasq", false, 1},
		{"h", figures.TFTP, "dnsmasq", false, 2},
		{"h", figures.TFTP, "tftpd-hpa", false, 2},
		{"h", figures.Loss, figures.LossGoal, false, 1},
		{"h", figures.HTTP, "nginx", false, 1},
		{"f", figures.HeadGrowth, "64 bytes a piece, 16 MiB", true, 1},
	} {
		n := 0
		for _, f := range r.Figures {
			if f.Part == want.part && f.What == want.what && f.Peer == want.peer && f.TLS == want.tls {
				n++
			}
		}
		if n != want.rows {
			t.Errorf("%+v: there are %d rows", want, n)
		}
	}
	for _, v := range r.Targets {
		if v.State == figures.Met || v.State == figures.Missed {
			t.Errorf("--quick judges: %+v", v)
		}
	}
	if !strings.Contains(out.String(), "figures: "+file) {
		t.Errorf("the JSON file isn't named:\n%s", out)
	}
}

// An interrupt in the middle of a transfer leaves no process, no namespace and
// no folder; a kill leaves an empty folder at most, for the next run to remove.
func TestInterrupted(t *testing.T) {
	bin := built(t)
	for _, c := range []struct {
		signal syscall.Signal
		status int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 130}, {syscall.SIGKILL, -1}} {
		t.Run(c.signal.String(), func(t *testing.T) { interrupt(t, bin, c.signal, c.status) })
	}
}

func interrupt(t *testing.T, bin string, signal syscall.Signal, status int) {
	before := namespaces()
	cmd, out := start(t, bin, "--bin", bin, "--part", "e", "--json", filepath.Join(t.TempDir(), "never"))
	id := fmt.Sprint("kabench", cmd.Process.Pid)
	dir := filepath.Join(os.TempDir(), id)
	if !eventually(30*time.Second, func() bool { return len(children(t, id)) >= 4 }) { // golden and three receivers
		t.Fatalf("nothing was started:\n%s", out)
	}
	cmd.Process.Signal(signal)
	cmd.Wait()
	if s := cmd.ProcessState.ExitCode(); s != status {
		t.Errorf("exit status %d, want %d:\n%s", s, status, out)
	}
	patience := time.Duration(0)
	if signal == syscall.SIGKILL {
		patience = 5 * time.Second // the kernel kills them
	}
	if !eventually(patience, func() bool { return len(children(t, id)) == 0 }) {
		t.Errorf("processes are left: %v", children(t, id))
	}
	// Removable is: there, and empty.
	if err := os.Remove(dir); signal == syscall.SIGKILL && err != nil || signal != syscall.SIGKILL && err == nil {
		t.Errorf("%s after it: %v", dir, err)
	}
	if after := namespaces(); !slices.Equal(before, after) {
		t.Errorf("named namespaces before %v, after %v", before, after)
	}
}

func eventually(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
		if !time.Now().Before(end) {
			return false
		}
	}
}

// children are the processes whose working folder is the run's.
func children(t *testing.T, id string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if where, err := os.Readlink(p); err == nil && strings.Contains(where, id) {
			found = append(found, p)
		}
	}
	return found
}

// namespaces are the names that this program could have left; others' tests
// make theirs at the same time.
func namespaces() []string {
	all, _ := filepath.Glob("/run/netns/kabench*")
	return all
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{{"--part", "x"}, {"--repeat", "-1"}, {"more"}, {"--repeat", "a"}} {
		var text bytes.Buffer
		if _, err := parse(args, &text); err == nil || !strings.Contains(text.String(), args[len(args)-1]) {
			t.Errorf("%v: error %v, said %q", args, err, &text)
		}
	}
	o, err := parse([]string{"--part", "a,b", "--out", "x"}, &bytes.Buffer{})
	if err != nil || o.parts != "ab" || o.json != "x" || o.repeat != 2 {
		t.Errorf("parse: %+v, %v", o, err)
	}
}

func TestParsePerfdhcp(t *testing.T) {
	const out = "Running: perfdhcp -4 all\n***Rate statistics***\nRate: 997.87 4-way exchanges/second, expected rate: 1000\n" +
		"drops: 1\ndrops ratio: 0.0333444 %\norphans: 0\n\ndrops: 4\ndrops ratio: 1.133e+01 %\n"
	got, lost, err := parsePerfdhcp(out, nil)
	if err != nil || got != 997.87 || lost != 11.33 {
		t.Errorf("rate %v, lost %v, %v", got, lost, err)
	}
	for _, bad := range []string{"", "Rate: 1.2.3 4-way exchanges/second\ndrops ratio: 1 %\ndrops ratio: 1 %\n", "Rate: 1 4-way exchanges/second\ndrops ratio: 1 %\n"} {
		if _, _, err := parsePerfdhcp(bad, nil); err == nil {
			t.Errorf("%q is understood", bad)
		}
	}
}

func TestParseBench(t *testing.T) {
	got := parseBench([]byte("goos: linux\nBenchmarkChain/nodes=1_plain=true-2 \t 12\t 90345 ns/op\t2971.19 MB/s\t 0.5 cpu-s/GB\n" +
		"BenchmarkChain/nodes=4_plain=false \t 1\t 1 ns/op\t7 MB/s\nPASS\n"))
	if len(got) != 2 || got["nodes=1 plain=true"] != 2971.19 || got["nodes=4 plain=false"] != 7 {
		t.Errorf("parseBench: %v", got)
	}
}
