package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// interactive is who talks to a person.
const interactive = "/bbin/gosh"

// script is what the arguments say.
type script struct {
	options []string // of the shell: -e, -u, -x and so on
	name    string   // $0
	text    io.Reader
	args    []string // $1 and so on
}

func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	s, close, err := read(args, stdin)
	if err != nil {
		fmt.Fprintln(stderr, "sh:", err)
		if errors.Is(err, os.ErrNotExist) {
			return 127
		}
		return 2
	}
	defer close()
	if s.text == io.Reader(stdin) && term.IsTerminal(int(stdin.Fd())) {
		err := syscall.Exec(interactive, []string{interactive}, os.Environ())
		fmt.Fprintf(stderr, "sh: start %s: %v\n", interactive, err)
		return 126
	}
	return s.run(stdin, stdout, stderr)
}

// read takes the arguments apart, as sh(1p) has them.
func read(args []string, stdin *os.File) (s script, close func(), err error) {
	command, fromStdin := false, false
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		word := args[0]
		args = args[1:]
		if word == "--" {
			break
		}
		for _, c := range word[1:] {
			switch c {
			case 'c':
				command = true
			case 's':
				fromStdin = true
			case 'i', 'l': // no matter
			case 'o':
				if len(args) == 0 {
					return s, func() {}, errors.New("-o: which option?")
				}
				s.options, args = append(s.options, "-o", args[0]), args[1:]
			default:
				s.options = append(s.options, "-"+string(c))
			}
		}
	}
	s.name, s.args, close = "sh", args, func() {}
	switch {
	case command && len(args) == 0:
		return s, close, errors.New("-c: what command?")
	case command:
		s.text, s.args = strings.NewReader(args[0]), args[1:]
		if len(s.args) > 0 {
			s.name, s.args = s.args[0], s.args[1:]
		}
	case fromStdin || len(args) == 0:
		s.text = stdin
	default:
		f, err := os.Open(args[0])
		if err != nil {
			return s, close, err
		}
		s.text, s.name, s.args, close = f, args[0], args[1:], func() { f.Close() }
	}
	return s, close, nil
}

func (s script) run(stdin io.Reader, stdout, stderr io.Writer) int {
	prog, err := syntax.NewParser().Parse(s.text, s.name)
	if err != nil {
		fmt.Fprintln(stderr, "sh:", err)
		return 2
	}
	params := append(append(s.options, "--"), s.args...)
	r, err := interp.New(interp.StdIO(stdin, stdout, stderr), interp.Params(params...))
	if err != nil {
		fmt.Fprintln(stderr, "sh:", err)
		return 2
	}
	err = r.Run(context.Background(), prog)
	if status, ok := interp.IsExitStatus(err); ok {
		return int(status)
	}
	if err != nil {
		fmt.Fprintln(stderr, "sh:", err)
		return 1
	}
	return 0
}
