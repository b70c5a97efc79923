package golden

import (
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

func client(t *testing.T, mac string) netboot.Client {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	return netboot.Client{MAC: hw}
}

func mustArms(t *testing.T, n int, macs ...string) *arms {
	t.Helper()
	a, err := newArms(n, macs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const one, two, three = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"

func TestFirstSoManyAreArmedAndNoMore(t *testing.T) {
	a := mustArms(t, 2)
	for _, c := range []struct {
		mac  string
		want netboot.Answer
	}{{one, netboot.BootImage}, {two, netboot.BootImage}, {three, netboot.LocalBoot}, {one, netboot.BootImage}} {
		if got := a.decide(client(t, c.mac)); got != c.want {
			t.Errorf("%s: %v, want %v", c.mac, got, c.want)
		}
	}
	if err := a.admit(wire.Register{MAC: three}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("third machine: %v", err)
	}
	if err := a.admit(wire.Register{MAC: two}); err != nil {
		t.Error(err)
	}
}

func TestNamedMachinesOnly(t *testing.T) {
	a := mustArms(t, 2, strings.ToUpper(one))
	if got := a.decide(client(t, one)); got != netboot.BootImage {
		t.Errorf("named machine: %v", got)
	}
	if got := a.decide(client(t, two)); got != netboot.Silent {
		t.Errorf("a machine that nobody named: %v", got)
	}
	if err := a.admit(wire.Register{MAC: two}); err == nil || !strings.Contains(err.Error(), "not on the list") {
		t.Errorf("a machine that nobody named registers: %v", err)
	}
	if _, err := newArms(1, []string{"nonsense"}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("not an address: %v", err)
	}
}

// Once done, never again: the machine's next network boot is its own disk.
func TestDoneBootsLocally(t *testing.T) {
	for _, s := range []status.State{status.Done, status.Released, status.Failed} {
		a := mustArms(t, 1)
		a.decide(client(t, one))
		n := newNode(wire.Register{MAC: one})
		a.sent(client(t, one).MAC)
		if a.allHome([]*Node{n}) {
			t.Error("home before it was done")
		}
		a.seen(n, s)
		if got := a.decide(client(t, one)); got != netboot.LocalBoot {
			t.Errorf("%s: %v", s, got)
		}
		if err := a.admit(wire.Register{MAC: one}); err == nil {
			t.Errorf("%s: may register again", s)
		}
		a.sent(client(t, one).MAC)
		if !a.allHome([]*Node{n}) {
			t.Error("not home")
		}
	}
}

func TestHostname(t *testing.T) {
	for template, want := range map[string]string{"": "node7", "node%03d": "node007", "lab": "lab", "pc-%d.lan": "pc-7.lan"} {
		if got := hostname(template, 7); got != want || checkHostname(template) != nil {
			t.Errorf("%q: %q, %v", template, got, checkHostname(template))
		}
	}
	for _, bad := range []string{"a b", "x%s", "%d%d", "rm;", "ä"} {
		if checkHostname(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Files belong to the deepest file system that holds their mount point.
func TestNeed(t *testing.T) {
	p := wire.Plan{Filesystems: []wire.Filesystem{{MountPoint: "/"}, {MountPoint: "/var"}, {Type: "swap"}, {MountPoint: "/var/lib"}}}
	need(&p, []stream.Usage{{Mount: "/", Bytes: 1, Inodes: 1}, {Mount: "/var/lib/x", Bytes: 2}, {Mount: "/variable", Bytes: 4}, {Mount: "/var", Bytes: 8}})
	for i, want := range []int64{5, 8, 0, 2} {
		if got := p.Filesystems[i].NeedBytes; got != want {
			t.Errorf("%s needs %d, want %d", p.Filesystems[i].MountPoint, got, want)
		}
	}
}
