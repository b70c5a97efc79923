package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What our programs write into the kernel's log, as a console does, is in the
// node's log on golden: once, and with nothing in it that steers a terminal.
func TestConsole(t *testing.T) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	t.Setenv(withKmsg, "/dev/kmsg")
	l := newLab(t, 1, "agent")
	l.ready(t, 1)
	word := fmt.Sprintf("kamethod test %d", os.Getpid())
	for i := range 3 {
		if _, err := fmt.Fprintf(f, "<15>%s: line %d \x1b[2J\n", word, i); err != nil {
			t.Fatal(err)
		}
	}
	got := func() []string {
		out, err := l.command("logs", "1").Output()
		var list []string
		for line := range strings.Lines(string(out)) {
			if err == nil && strings.Contains(line, word) {
				list = append(list, line)
			}
		}
		return list
	}
	l.until(t, "the lines are in the node's log", func() bool { return len(got()) >= 3 })
	for i, line := range got() {
		if i > 2 || !strings.Contains(line, fmt.Sprintf("%s: line %d ", word, i)) || strings.Contains(line, "\x1b") {
			t.Errorf("line %d is %q", i, line)
		}
	}
}
