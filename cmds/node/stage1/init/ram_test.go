package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/cmds/node/internal/console"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
)

// A machine that has all goes on without golden; one that hasn't doesn't, and
// what is wrong with the machine itself is never forgotten.
func TestWithoutGolden(t *testing.T) {
	own := errors.New("no room")
	for _, why := range []error{join.ErrGoldenLost, join.ErrStopped, join.ErrRefused, own, nil} {
		for _, whole := range []bool{true, false} {
			var out bytes.Buffer
			s := &stage1{con: console.New(&out)}
			err := why
			if why != nil {
				err = fmt.Errorf("wait: %w", why)
			}
			got := s.without(whole, err)
			goesOn := why == nil || whole && why != own
			if (got == nil) != goesOn || got != nil && !errors.Is(got, why) {
				t.Errorf("%v, whole %v: %v", why, whole, got)
			}
			if said := strings.Contains(out.String(), "gone before the release"); said != (goesOn && why != nil) {
				t.Errorf("%v, whole %v says %q", why, whole, out.String())
			}
		}
	}
}
