package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// byNode sorts what golden-serve exec printed by node.
func byNode(t *testing.T, out string) map[string][]string {
	t.Helper()
	got := map[string][]string{}
	for line := range strings.Lines(out) {
		name, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok || !strings.HasPrefix(name, "node") {
			t.Fatalf("a line without its node: %q", line)
		}
		got[name] = append(got[name], text)
	}
	return got
}

// Real nodes, in stage 2, that wait for the administrator's yes: the disks are
// untouched, and they run programs.
func TestExec(t *testing.T) {
	l := newLab(t, 3, "clone")
	l.ready(t, 3)
	l.until(t, "all are in stage 2", func() bool {
		out, err := l.command("status", "-o", "json").Output()
		return err == nil && strings.Count(string(out), `"state": "stage 2"`) == 3
	})
	out, errs := l.run(t, 0, "exec", "all", "--", "sh", "-c", "echo one; echo two >&2; printf three")
	for i := 1; i <= 3; i++ {
		if got := byNode(t, out)[fmt.Sprintf("node%d", i)]; !slices.Equal(got, []string{"one", "three"}) {
			t.Errorf("node%d says %q", i, got)
		}
		if got := byNode(t, errs)[fmt.Sprintf("node%d", i)]; !slices.Equal(got, []string{"two"}) {
			t.Errorf("node%d says on standard error %q", i, got)
		}
	}
	if out, _ = l.run(t, 0, "exec", "2,"+mac(3), "--", "echo", "$HOME", "a  b", "-p", "x", "y"); len(byNode(t, out)) != 2 || !strings.Contains(out, "node2: $HOME a  b -p x y\n") {
		t.Errorf("arguments as they are, on two nodes: %q", out)
	}
	if _, errs = l.run(t, 1, "exec", "all", "--", "sh", "-c", "[ -e "+l.dir+"/n2 ] && exit 7"); strings.Count(errs, "exit status 7") != 3 {
		t.Errorf("exit statuses: %q", errs)
	}
	if _, errs = l.run(t, 1, "exec", "node1", "--", "/no/such/program"); !strings.Contains(errs, "node1: ") || !strings.Contains(errs, "no such file") {
		t.Errorf("a program that isn't there: %q", errs)
	}
	l.run(t, 2, "exec", "node9", "--", "true")
	l.run(t, 2, "exec", "all", "true")
	l.run(t, 2, "exec", "-s", "other", "all", "--", "true")
	if out, _ = l.run(t, 0, "exec", "1", "--", "printf", `\033[2Jred\007\n`); out != "node1: \\u001b[2Jred\\u0007\n" {
		t.Errorf("what steers a terminal: %q", out)
	}
	if _, errs = l.run(t, 1, "exec", "--timeout", "1s", "all", "--", "sleep", "98765"); strings.Count(errs, "longer than 1s") != 3 {
		t.Errorf("a limit: %q", errs)
	}
	l.until(t, "no program is left over its limit", func() bool { return processes("sleep 98765") == 0 })
	if out, _ = l.run(t, 0, "exec", "-o", "json", "1", "--", "true"); !strings.Contains(out, `"exit":{"code":0}`) {
		t.Errorf("json: %q", out)
	}
	interrupted(t, l, 3)
	manyLines(t, l, 3)
	leftBehind(t, l)
}

// interrupted is ^C: the program ends everywhere, with its children.
func interrupted(t *testing.T, l *lab, n int) {
	t.Helper()
	c := l.command("exec", "all", "--", "sh", "-c", "sleep 98766; true")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	l.until(t, "the program runs everywhere", func() bool { return processes("sleep 98766") >= 2*n })
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != 130 {
		t.Errorf("interrupted: exit status %d", got)
	}
	l.until(t, "the program has ended everywhere", func() bool { return processes("sleep 98766") == 0 })
}

// manyLines is more than anything on the way holds, to somebody who reads
// slowly at first: nothing is missing, and nothing comes twice.
func manyLines(t *testing.T, l *lab, n int) {
	t.Helper()
	const lines = 60_000
	c := l.command("exec", "all", "--", "sh", "-c", fmt.Sprintf("seq -f line%%.0f %d", lines))
	r, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	next := map[string]int{}
	var b strings.Builder
	buf := make([]byte, 64<<10)
	for {
		k, err := r.Read(buf)
		b.Write(buf[:k])
		if err != nil {
			break
		}
	}
	for line := range strings.Lines(b.String()) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if next[name]++; text != fmt.Sprintf("line%d", next[name]) {
			t.Fatalf("%s: %q, want line %d", name, text, next[name])
		}
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	for i := 1; i <= n; i++ {
		if got := next[fmt.Sprintf("node%d", i)]; got != lines {
			t.Errorf("node%d: %d lines", i, got)
		}
	}
}

// leftBehind is a child that goes on and holds the output open: the program
// has ended all the same.
func leftBehind(t *testing.T, l *lab) {
	t.Helper()
	begun := time.Now()
	if out, _ := l.run(t, 0, "exec", "1", "--", "sh", "-c", "sleep 300 & echo done"); out != "node1: done\n" {
		t.Errorf("a program with a child left behind: %q", out)
	}
	if d := time.Since(begun); d > time.Minute {
		t.Errorf("it waited %s for the child", d)
	}
}
