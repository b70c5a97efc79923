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
	"testing/synctest"
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
			p := s.patience()
			p.pause = time.Millisecond
			calls := 0
			err := s.tryFetch(t.Context(), p, func(context.Context) error {
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

// Dolly's server is looked for three times, for as long each as the boot line
// says, with the words of the manual.
func TestTryDolly(t *testing.T) { synctest.Test(t, tryDolly) }

// tryDolly has a clock of its own, which goes on when everybody waits.
func tryDolly(t *testing.T) {
	var out bytes.Buffer
	p, _ := wire.ParseCmdline("automatic=method:dolly,dolly_timeout:1 rescue dollymethod")
	s := &stage1{con: console.New(&out), params: p}
	patience := s.patience()
	patience.pause = 300 * time.Millisecond
	calls, begun := 0, time.Now()
	err := s.tryFetch(t.Context(), patience, func(context.Context) error {
		calls++
		return fmt.Errorf("%w: nobody answered", join.ErrNoServer)
	})
	if !errors.Is(err, join.ErrNoServer) || calls != 3*4 { // each second holds four looks
		t.Errorf("got %v after %d calls", err, calls)
	}
	if d, want := time.Since(begun), 3*900*time.Millisecond+2*patience.pause; d != want {
		t.Errorf("gave up after %s, want %s", d, want)
	}
	for n := range 3 {
		if want := fmt.Sprintf("Waiting for rescue from Dolly server (timeout 1) (Try %d/3)\n", n+1); !strings.Contains(out.String(), want) {
			t.Errorf("never said %q", want)
		}
	}
	if n := strings.Count(out.String(), "Can't reach a valid Dolly server\n"); n != 3 {
		t.Errorf("said it %d times:\n%s", n, out.String())
	}
}

func TestPatience(t *testing.T) {
	for _, tt := range []struct {
		line  string
		tries int
		each  time.Duration
		none  string
	}{
		{"automatic=method:ka kamethod", 5, 0, "Can't reach a valid KA server"},
		{"kamethod", 5, 0, "Can't reach a valid KA server"},
		{"automatic=method:dolly rescue", 3, 120 * time.Second, "Can't reach a valid Dolly server"},
		{"automatic=method:dolly,dolly_timeout:100 rescue kamethod", 3, 100 * time.Second, "Can't reach a valid Dolly server"},
		{"automatic=method:nfs,server:10.0.1.253 rescue", 5, 0, "Can't reach a valid NFS server: 10.0.1.253"},
		{"automatic=method:http,server:a.lab:80 rescue", 5, 0, "Can't reach a valid HTTP server: a.lab:80"},
		{"automatic=method:ftp rescue", 5, 0, "Can't reach a valid FTP server: 10.77.0.9"},
		{"automatic=method:http,server:a.lab:80 ka.run=ram", 5, 0, "Can't reach a valid KA server"},
	} {
		p, errs := wire.ParseCmdline(tt.line)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		got := (&stage1{params: p, lease: &nic.Lease{NextServer: netip.MustParseAddr("10.77.0.9")}}).patience()
		if got.tries != tt.tries || got.each != tt.each || got.none != tt.none {
			t.Errorf("%q: got %+v", tt.line, got)
		}
	}
}

func TestCheckMethod(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"automatic=method:ka,interface:eth0,network:dhcp kamethod", ""},
		{"automatic=method:ka rescue kamethod", ""},
		{"automatic=method:ka rescue", ""},
		{"kamethod", ""},
		{"dollymethod", ""},
		{"automatic=method:nfs,server:10.0.1.253,directory:/cs4 root=/dev/ram3 rescue rw", ""},
		{"automatic=method:nfs kamethod", "without server:"},
		{"automatic=method:dolly rescue dollymethod", ""},
		{"automatic=method:ka rescue dollyCmethod", ""},
		{"quiet", "nothing to do"},
	} {
		p, errs := wire.ParseCmdline(tt.line)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		err := (&stage1{params: p, lease: &nic.Lease{}}).checkMethod()
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
		{"automatic=method:http,server:10.0.0.1", lease, []string{"10.77.0.9", ""}}, // the file server is another
		{"automatic=method:nfs,server:10.0.0.1", &nic.Lease{}, []string{""}},
		{"", &nic.Lease{}, []string{""}},
	} {
		p, _ := wire.ParseCmdline(tt.line)
		if got := (&stage1{params: p, lease: tt.lease}).places(); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.line, got, tt.want)
		}
	}
}
