package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/console"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/cmds/node/internal/nic"
	"github.com/kamethod/kamethod/golden/wire"
)

func TestTryFetch(t *testing.T) {
	real := errors.New("disk of wool")
	none := fmt.Errorf("%w: nobody answered", join.ErrNoServer)
	for _, tt := range []struct {
		name    string
		answers []error
		want    error
		said    int
	}{
		{"at once", []error{nil}, nil, 0},
		{"third time", []error{none, none, nil}, nil, 2},
		{"never", []error{none, none, none, none, none}, join.ErrNoServer, 5},
		{"another failure isn't repeated", []error{none, real}, real, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			s := &stage1{con: console.New(&out)}
			calls := 0
			err := s.tryFetch(t.Context(), maxTries, time.Millisecond, func(context.Context) error {
				calls++
				return tt.answers[calls-1]
			})
			if !errors.Is(err, tt.want) || calls != len(tt.answers) {
				t.Errorf("got %v after %d calls", err, calls)
			}
			if n := strings.Count(out.String(), "Can't reach a valid KA server\n"); n != tt.said {
				t.Errorf("said it %d times, want %d:\n%s", n, tt.said, out.String())
			}
		})
	}
}

func TestCheckMethod(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"automatic=method:ka,interface:eth0,network:dhcp kamethod", ""},
		{"automatic=method:ka rescue kamethod", ""},
		{"automatic=method:ka rescue", ""},
		{"kamethod", ""},
		{"automatic=method:nfs kamethod", "method:nfs"},
		{"automatic=method:dolly rescue dollymethod", "method:dolly"},
		{"automatic=method:ka rescue dollymethod", "dollymethod"},
		{"quiet", "nothing to do"},
	} {
		p, errs := wire.ParseCmdline(tt.line)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		err := (&stage1{params: p}).checkMethod()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.line, err, tt.want)
		}
	}
}

func TestPlaces(t *testing.T) {
	lease := &nic.Lease{NextServer: netip.MustParseAddr("10.77.0.9")}
	for _, tt := range []struct {
		line  string
		lease *nic.Lease
		want  []string
	}{
		{"ka.server=golden:1", lease, []string{"golden:1"}}, // an order: nowhere else
		{"automatic=server:10.0.0.1", lease, []string{"10.0.0.1", ""}},
		{"", lease, []string{"10.77.0.9", ""}},
		{"", &nic.Lease{}, []string{""}},
	} {
		p, _ := wire.ParseCmdline(tt.line)
		if got := (&stage1{params: p, lease: tt.lease}).places(); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.line, got, tt.want)
		}
	}
}
