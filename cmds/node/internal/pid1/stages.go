package pid1

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/kamethod/kamethod/cmds/node/internal/console"
)

// Stage is one named part of a boot.
type Stage struct {
	Name string
	Run  func(ctx context.Context) error
}

// Sequence is the boot as a list.
type Sequence struct {
	Title   string // "kamethod stage 1", before every line
	Console *console.Console
	Stages  []Stage

	// BreakAt is asked before each stage whether a person wants a shell
	// there, and why; it is asked anew since the command line is read by one
	// of the stages.
	BreakAt func(stage string) (why string, ok bool)
}

// StageError is a failure with the stage it happened in.
type StageError struct {
	Stage string
	Err   error
}

func (e *StageError) Error() string { return e.Stage + " failed: " + e.Err.Error() }

func (e *StageError) Unwrap() error { return e.Err }

// Run goes through the stages and stops at the first that fails.
func (s Sequence) Run(ctx context.Context) error {
	for _, st := range s.Stages {
		if why, ok := s.BreakAt(st.Name); ok {
			s.Console.Break(ctx, s.Title+": "+why)
		}
		s.Console.Line("%s: %s", s.Title, st.Name)
		if err := guard(ctx, st.Run); err != nil {
			return &StageError{Stage: st.Name, Err: err}
		}
	}
	return nil
}

// guard turns a panic into an error: PID 1 must not end.
func guard(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return run(ctx)
}
