package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// agentPid is the process of a node's agent: ip has become it.
func (l *lab) agentPid(i int) int { return l.nodes[i-1].cmd.Process.Pid }

// peers are the nodes with which a node has TCP connections, by the numbers in
// their addresses (/proc/PID/net/tcp has them in hexadecimal, backwards).
func (l *lab) peers(t *testing.T, i int) map[int]bool {
	t.Helper()
	out := map[int]bool{}
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(l.agentPid(i)), "net", name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "01" { // established, include/net/tcp_states.h
				continue
			}
			ip, _, _ := strings.Cut(f[2], ":")
			last, err := strconv.ParseUint(ip[len(ip)-8:len(ip)-6], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			out[int(last)-10] = true // golden is -9
		}
	}
	return out
}

// Orders go through the nodes; two inner ones are killed while their programs
// and those below them speak, one hangs: who is below them answers to its end
// all the same, each line once, and the program runs once everywhere.
func TestTree(t *testing.T) {
	const nodes, fanout, lines = 14, 2, 40
	l := newLab(t, nodes, "agent", "--fanout", strconv.Itoa(fanout))
	l.ready(t, nodes)
	place := l.places(t, nodes)
	ran := filepath.Join(l.dir, "ran")
	if err := os.WriteFile(ran, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	begin := filepath.Join(l.dir, "go-on")
	// Half is said at once, and the other half when the test says so.
	script := fmt.Sprintf("echo x >>%s; seq -f line%%.0f 1 %d; while [ ! -e %s ]; do sleep 0.1; done; seq -f line%%.0f %d %d",
		ran, lines/2, begin, lines/2+1, lines)
	c := l.command("exec", "all", "--", "sh", "-c", script)
	var out, errs locked
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	l.until(t, "the first half is here", func() bool {
		return strings.Count(out.String(), fmt.Sprintf(": line%d\n", lines/2)) == nodes
	})
	throughNodes := 0
	for i := 1; i <= nodes; i++ {
		for p := range l.peers(t, i) {
			if p > 0 {
				throughNodes++
			}
		}
	}
	if want := 2 * (nodes - fanout); throughNodes != want {
		t.Errorf("%d ends of connections between nodes, want %d: it didn't go through the tree", throughNodes, want)
	}
	// By plant: 1 and 2 are told by golden, 3 and 5 by 1, 4 and 6 by 2.
	dead, hung := []int{place[1], place[4]}, place[6]
	for _, i := range dead {
		syscall.Kill(l.agentPid(i), syscall.SIGKILL)
	}
	syscall.Kill(l.agentPid(hung), syscall.SIGSTOP)
	defer syscall.Kill(l.agentPid(hung), syscall.SIGCONT)
	l.until(t, "golden asks who was below the dead", func() bool {
		return strings.Count(l.log.String(), "asking a node itself") >= 3
	})
	if err := os.WriteFile(begin, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { c.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Minute):
		t.Fatal("the exec doesn't end")
	}
	if got := c.ProcessState.ExitCode(); got != 1 {
		t.Errorf("exit status %d, want 1: three nodes are lost", got)
	}
	got := byNode(t, out.String())
	for number := 1; number <= nodes; number++ {
		name := fmt.Sprintf("node%d", number)
		lost := number == 1 || number == 4 || number == 6
		if strings.Contains(errs.String(), name+": lost: ") != lost {
			t.Errorf("%s: lost is to be %v", name, lost)
		}
		want := lines
		if lost {
			want = lines / 2
		}
		if len(got[name]) != want {
			t.Errorf("%s: %d lines, want %d", name, len(got[name]), want)
		}
		for i, line := range got[name] {
			if line != fmt.Sprintf("line%d", i+1) {
				t.Errorf("%s: line %d is %q", name, i+1, line)
				break
			}
		}
	}
	if b, err := os.ReadFile(ran); err != nil || len(b) != 2*nodes {
		t.Errorf("it ran %d times, want %d: %v", len(b)/2, nodes, err)
	}
	if t.Failed() {
		t.Logf("%.2000s", errs.String())
	}
}

// places tells which of the lab's nodes has a number of golden's.
func (l *lab) places(t *testing.T, n int) map[int]int {
	t.Helper()
	out := map[int]int{}
	for _, m := range regexp.MustCompile(`node is here node=(\d+) addr=10\.79\.0\.(\d+):`).FindAllStringSubmatch(l.log.String(), -1) {
		number, err := strconv.Atoi(m[1])
		last, err2 := strconv.Atoi(m[2])
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		out[number] = last - 10
	}
	if len(out) != n {
		t.Fatalf("%d nodes have a place", len(out))
	}
	return out
}

// cost is the processor's time of golden-serve until now, in milliseconds.
func (l *lab) cost(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.golden.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])) // proc_pid_stat(5): 14 and 15, in ticks of 10 ms
	user, err := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return 10 * (user + system)
}

// BenchmarkExec is what a tree gains and costs: the time from the
// administrator's word to the last answer.
func BenchmarkExec(b *testing.B) {
	const nodes = 64
	l := newLab(b, nodes, "agent", "--fanout", "8")
	l.ready(b, nodes)
	for _, how := range []struct {
		name string
		args []string
	}{
		{"true/tree", []string{"exec", "all", "--", "true"}},
		{"true/direct", []string{"exec", "--direct", "all", "--", "true"}},
		{"100kB/tree", []string{"exec", "all", "--", "seq", "20000"}},
		{"100kB/direct", []string{"exec", "--direct", "all", "--", "seq", "20000"}},
	} {
		b.Run(how.name, func(b *testing.B) {
			before := l.cost(b)
			for b.Loop() {
				l.run(b, 0, how.args...)
			}
			b.ReportMetric(float64(l.cost(b)-before)/float64(b.N), "golden-ms/op")
		})
	}
}
