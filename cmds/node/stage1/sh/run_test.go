package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// It does what bash does, called in the same way.
func TestAsSh(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho $# $1 \"$2\"; exit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   []string
		stdin  string
		out    string
		status int
	}{
		{[]string{"-c", "echo a; exit 7"}, "", "a\n", 7},
		{[]string{"-c", "echo $0 $2 $1", "name", "x", "y"}, "", "name y x\n", 0},
		{[]string{"-ec", "false; echo not here"}, "", "", 1},
		{[]string{"-e", "-c", "false; echo not here"}, "", "", 1},
		{[]string{file, "one", "two words"}, "", "2 one two words\n", 3},
		{nil, "echo $#\n", "0\n", 0},
		{[]string{"-s", "a", "b"}, "echo $2\n", "b\n", 0},
		{[]string{"-c", "if"}, "", "", 2},
		{[]string{"-c"}, "", "", 2},
		{[]string{"-euo", "pipefail", "-c", "false | true; echo not here"}, "", "", 1},
		{[]string{"-o"}, "", "", 2},
		{[]string{filepath.Join(dir, "none")}, "", "", 127},
	} {
		in := filepath.Join(t.TempDir(), "in")
		if err := os.WriteFile(in, []byte(tt.stdin), 0o600); err != nil {
			t.Fatal(err)
		}
		stdin, err := os.Open(in)
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		if bash, err := exec.LookPath("bash"); err == nil && !slices.Equal(tt.args, []string{"-o"}) { // which lists options there
			judge := exec.Command(bash, tt.args...)
			judge.Args[0] = "sh"
			judge.Stdin = strings.NewReader(tt.stdin)
			b, _ := judge.Output()
			if string(b) != tt.out || judge.ProcessState.ExitCode() != tt.status {
				t.Errorf("bash %q: %q, status %d", tt.args, b, judge.ProcessState.ExitCode())
			}
		}
		var out, complaints bytes.Buffer
		status := run(tt.args, stdin, &out, &complaints)
		if out.String() != tt.out || status != tt.status {
			t.Errorf("sh %q: %q, status %d, want %q, %d (%s)", tt.args, out.String(), status, tt.out, tt.status, complaints.String())
		}
		if tt.status > 0 && tt.out == "" && tt.status != 1 && complaints.Len() == 0 {
			t.Errorf("sh %q says nothing", tt.args)
		}
	}
}
