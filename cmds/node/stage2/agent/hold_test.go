package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// Real nodes that have no disk: they fail when the administrator says yes.
// With --hold golden stays, and they run programs in what is left; what they
// said is kept, and golden ends when they are released.
func TestHoldAndLogs(t *testing.T) {
	l := newLab(t, 2, "clone", "--hold")
	l.ready(t, 2)
	l.until(t, "golden asks", func() bool { return strings.Contains(l.log.String(), "Type yes") })
	follow := l.command("logs", "-f")
	var followed locked
	follow.Stdout, follow.Stderr = &followed, &followed
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- follow.Wait() }()
	if _, err := l.typed.WriteString("yes\n"); err != nil {
		t.Fatal(err)
	}
	l.until(t, "both have failed", func() bool {
		out, err := l.command("status", "-o", "json").Output()
		return err == nil && strings.Count(string(out), `"state": "failed"`) == 2
	})
	l.until(t, "golden holds", func() bool {
		out, err := l.command("status").Output()
		return err == nil && strings.Contains(string(out), "held")
	})
	if out, _ := l.run(t, 0, "exec", "all", "--", "echo", "a shell"); strings.Count(out, ": a shell\n") != 2 {
		t.Errorf("nodes that failed run programs: %q", out)
	}
	out, _ := l.run(t, 0, "logs", "1")
	for _, want := range []string{"is here in stage1", "is here in stage2", "state: preparing disks", "failed: preparing disks: "} {
		if !strings.Contains(out, want) {
			t.Errorf("node 1's log has no %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "node2:") {
		t.Errorf("node 1's log has another's: %s", out)
	}
	out, _ = l.run(t, 0, "logs", "-o", "json", mac(2))
	for line := range strings.Lines(out) {
		var v struct {
			Node int
			Time time.Time
			Text string
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.Node != 2 || v.Time.IsZero() || v.Text == "" {
			t.Errorf("%q: %v", line, err)
		}
	}
	if out, _ = l.run(t, 0, "logs", "10.79.0.12"); strings.Count(out, "node2: ") == 0 || strings.Contains(out, "node1: ") {
		t.Errorf("by its address: %s", out)
	}
	l.run(t, 2, "logs", "10.79.0.99")
	l.run(t, 2, "release", "7")
	if out, _ = l.run(t, 0, "release", "node1"); !strings.Contains(out, "node 1: failed") {
		t.Errorf("release of one: %q", out)
	}
	l.run(t, 0, "exec", "2", "--", "true") // golden stays for the other
	l.run(t, 0, "release")
	l.golden.Wait()
	if got := l.golden.ProcessState.ExitCode(); got != 1 {
		t.Errorf("golden ends with %d", got)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("logs -f: %v", err)
		}
	case <-time.After(patience):
		t.Error("logs -f goes on after the session")
		follow.Process.Kill()
	}
	if !strings.Contains(followed.String(), "failed: preparing disks") {
		t.Errorf("logs -f has printed %q", followed.String())
	}
	if out, _ = l.run(t, 0, "logs"); strings.Count(out, "failed: preparing disks") != 2 {
		t.Errorf("logs after the end: %q", out)
	}
	l.run(t, 2, "exec", "all", "--", "true")
	l.run(t, 2, "logs", "-s", "other")
}
