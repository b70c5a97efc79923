package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/golden/status"
)

// exitNoServer tells init that nobody serves this machine: nothing has been
// touched, and it starts again (EX_TEMPFAIL, sysexits.h).
const exitNoServer = 75

// patience is how often and how long golden is looked for.
type patience struct {
	none  string // what is said then: the manual's words
	tries int
	each  time.Duration // of each try; 0: as long as it takes to look once
	pause time.Duration
	again bool // in the end the machine boots again
}

// patienceOf is the manual's, where stage 2 has not seen golden yet: five tries
// for ka, three of dolly_timeout for Dolly, whose server may be another than
// the one that sent stage 2. One that sent stage 2 by Dolly has ended by now, and
// somebody types the next command. Golden, which stage 1 saw a moment ago, gets
// ten seconds; after that the machine keeps a shell.
func patienceOf(st *handover.State) patience {
	switch {
	case st.Dolly():
		return patience{status.NoDolly, 3, st.DollyTimeout, 3 * time.Second, true}
	case st.Method == "dolly":
		return patience{status.NoServer, 5, st.DollyTimeout, 3 * time.Second, true}
	case st.Server == "":
		return patience{status.NoServer, 5, 0, 3 * time.Second, true}
	}
	return patience{status.NoServer, 10, 0, time.Second, false}
}

// placesOf is where golden may be; "" asks the network.
func placesOf(st *handover.State) []string {
	switch {
	case st.Server == "" && len(st.Places) > 0:
		return st.Places
	case st.Server == "" || st.Dolly() || st.Method == "dolly":
		return slices.Compact([]string{st.Server, ""})
	}
	return []string{st.Server}
}

// errNobody is that golden was looked for as long as the manual says.
var errNobody = errors.New("nobody serves this machine; nothing has been touched")

func exitStatus(err error) int {
	if errors.Is(err, errNobody) {
		return exitNoServer
	}
	return 1
}

// find registers with the first golden that is found.
func (p patience) find(ctx context.Context, c join.Config, places []string, say func(string)) (*join.Session, error) {
	for n := 1; ; n++ {
		s, err := p.look(ctx, c, places)
		if !errors.Is(err, join.ErrNoServer) {
			return s, err
		}
		say(p.none)
		say(fmt.Sprintf("try %d of %d: %s", n, p.tries, strings.ReplaceAll(err.Error(), "\n", "; ")))
		if n == p.tries {
			if p.again {
				err = fmt.Errorf("%w: %w", errNobody, err)
			}
			return nil, err
		}
		if err := wait(ctx, p.pause); err != nil {
			return nil, err
		}
	}
}

// look is one try.
func (p patience) look(ctx context.Context, c join.Config, places []string) (*join.Session, error) {
	for until := time.Now().Add(p.each); ; {
		var errs []error
		for _, c.Server = range places {
			s, err := join.Register(ctx, c)
			if err == nil || !errors.Is(err, join.ErrNoServer) {
				return s, err
			}
			errs = append(errs, err)
		}
		if time.Now().Add(p.pause).After(until) {
			return nil, errors.Join(errs...)
		}
		if err := wait(ctx, p.pause); err != nil {
			return nil, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
