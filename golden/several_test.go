package golden

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/wire"
)

// twoLabs are two clones for one golden, each with machines of its own.
func twoLabs(t *testing.T, one, two []string) (a, b *lab) {
	t.Helper()
	a, b = newLab(t, len(one), one...), newLab(t, len(two), two...)
	a.c.Session, a.c.Token = "room1", "token1"
	b.c.Session, b.c.Token, b.c.Identity = "room2", "token2", a.c.Identity
	return a, b
}

// startTogether carries both out by one golden.
func startTogether(a, b *lab) {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.t.Context())
	labs := []*lab{a, b}
	for _, l := range labs {
		l.cancel, l.done = cancel, make(chan struct{})
	}
	go func() {
		err := Several(ctx, nil, []Job{{Clone: &a.c}, {Clone: &b.c}}, func(i int, o Outcome) {
			labs[i].result, labs[i].err = o.Result, o.Err
			close(labs[i].done)
		})
		if err != nil {
			a.err, b.err = err, err
			close(a.done)
			close(b.done)
		}
	}()
	a.t.Cleanup(func() { cancel(); <-a.done; <-b.done })
	b.until("golden to listen", func() bool { // a may be meant to end before anybody sees it
		c, err := net.Dial("tcp", net.JoinHostPort(labAddr, fmt.Sprint(wire.ControlPort)))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

const (
	mac1, mac2, mac3 = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"
	macNobody        = "52:54:00:00:00:99"
)

// Two clones at once: each machine becomes what its session sends, whatever it
// tries before, and one that no session names becomes nothing.
func TestSeveralClones(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	a, b := twoLabs(t, []string{mac1, mac2}, []string{mac3})
	startTogether(a, b)
	for _, c := range []struct {
		what string
		lab  *lab
		mac  string
		// instead of the session's own
		session, token string
		want           string
	}{
		{"the right token for another session", a, mac1, "room2", "token1", "token is not this session's"},
		{"another session with its token", a, mac1, "room2", "token2", `machine ` + mac1 + ` is one of session "room1"`},
		{"the same without a token", a, mac1, "room2", "", `machine ` + mac1 + ` is one of session "room1"`},
		{"the other way round", b, mac3, "room1", "token1", `machine ` + mac3 + ` is one of session "room2"`},
		{"the right session with another's token", b, mac3, "room2", "token1", "token is not this session's"},
		{"a session that isn't", a, mac1, "room3", "token1", `no session "room3" here; these are called "room1", "room2"`},
		{"who is named in none", a, macNobody, "room1", "token1", "not on the list"},
		{"who is named in none, in the other", a, macNobody, "room2", "token2", "not on the list"},
	} {
		for _, stage := range []string{wire.Stage1, wire.Stage2} {
			copied := *c.lab
			copied.c.Session, copied.c.Token = c.session, c.token
			err := copied.machine(c.mac).register(stage, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: %v, want %q", c.what, stage, err, c.want)
			}
		}
	}
	admin := Admin{Control: net.JoinHostPort(labAddr, fmt.Sprint(wire.ControlPort)), Session: "room1", Identity: a.c.Identity}
	if _, err := admin.Arm(t.Context(), []string{mac3}); err == nil || !strings.Contains(err.Error(), `is one of session "room2"`) {
		t.Errorf("another's machine was armed: %v", err)
	}
	if n, err := admin.Nodes(t.Context()); err != nil || len(n.Machines) != 2 || n.Session != "room1" {
		t.Errorf("the list of room1: %+v, %v", n, err)
	}
	admin.Session = "room3"
	if _, err := admin.Status(t.Context()); err == nil || !strings.Contains(err.Error(), `these are called "room1", "room2"`) {
		t.Errorf("status of no session: %v", err)
	}
	one, two, three := a.machine(mac1), a.machine(mac2), b.machine(mac3)
	together([]*machine{one, two, three}, func(m *machine) {
		m.intoStage2()
		m.prepare()
		m.finish()
		m.wantRelease()
	})
	a.wait()
	b.wait()
	for _, l := range []*lab{a, b} {
		if l.err != nil || len(l.result.Nodes) != l.c.Nodes || l.result.Failed() > 0 || l.result.Session != l.c.Session {
			t.Errorf("%v, %+v", l.err, l.result)
		}
	}
}

// The end of one is not the other's: too few machines came to the first.
func TestSeveralEndApart(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	a, b := twoLabs(t, []string{mac1}, []string{mac3})
	a.c.Wait = 1
	startTogether(a, b)
	a.wait()
	if a.err == nil || !strings.Contains(a.err.Error(), "too few nodes") {
		t.Errorf("room1: %v", a.err)
	}
	if err := a.machine(mac1).register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "the session is over") {
		t.Errorf("who comes to a session that is over: %v", err)
	}
	m := b.machine(mac3)
	m.intoStage2()
	m.prepare()
	m.finish()
	m.wantRelease()
	b.wait()
	if b.err != nil || b.result.Failed() > 0 {
		t.Errorf("room2: %v, %+v", b.err, b.result)
	}
}

// What a machine hears at its boot is its session's; one of none hears nothing,
// and one of a session that is over has its own disk.
func TestSeveralBoot(t *testing.T) {
	a, b := twoLabs(t, []string{mac1}, []string{mac2})
	a.c.Boot.DHCP, b.c.Boot.DHCP = netboot.DHCPFull, netboot.DHCPFull
	one, err := newClone(a.c)
	if err != nil {
		t.Fatal(err)
	}
	two, err := newClone(b.c)
	if err != nil {
		t.Fatal(err)
	}
	if err := disjoint([]*deployment{one, two}); err != nil {
		t.Fatal(err)
	}
	h := newHub([]*deployment{one, two})
	var cfg netboot.Config
	if err := h.words(&cfg, netip.MustParseAddr(labAddr)); err != nil {
		t.Fatal(err)
	}
	ask := func(mac string, loading bool) netboot.Answer {
		c := client(t, mac)
		c.Loading = loading
		return h.decide(c)
	}
	for mac, want := range map[string]string{mac1: "ka.token=token1 kaopt=room1 ", mac2: "ka.token=token2 kaopt=room2 "} {
		for _, loading := range []bool{false, true} {
			if got := ask(mac, loading); got != netboot.BootImage {
				t.Errorf("%s, loading %v: %v", mac, loading, got)
			}
		}
		if words := cfg.Words(client(t, mac)) + " "; !strings.Contains(words, want) || strings.Count(words, "kaopt=") != 1 {
			t.Errorf("%s hears %q, want %q", mac, words, want)
		}
	}
	if got := ask(macNobody, false); got != netboot.Silent {
		t.Errorf("a stranger that looks for a boot server: %v", got)
	}
	if got := ask(macNobody, true); got != netboot.LocalBoot {
		t.Errorf("a stranger that has our boot loader: %v", got)
	}
	if words := cfg.Words(client(t, macNobody)); words != "" {
		t.Errorf("a stranger hears %q", words)
	}
	if err := two.arm([]string{mac1}); err == nil {
		t.Error("room2 has armed a machine of room1")
	}
	if err := two.arm([]string{macNobody}); err != nil {
		t.Errorf("a machine of none, armed in room2: %v", err)
	}
	if words := cfg.Words(client(t, macNobody)); ask(macNobody, true) != netboot.BootImage || !strings.Contains(words, "kaopt=room2") {
		t.Errorf("it hears %q", words)
	}
	one.over.Store(true)
	if got := ask(mac1, true); got != netboot.LocalBoot {
		t.Errorf("a machine of a session that is over: %v", got)
	}
	if got := ask(mac2, true); got != netboot.BootImage {
		t.Errorf("one of the other: %v", got)
	}
}

// Sessions that could take each other's machines are refused.
func TestSeveralDisjoint(t *testing.T) {
	for _, c := range []struct {
		one, two []string
		session  string
		want     string
	}{
		{[]string{mac1}, []string{mac2, "52-54-00-00-00-01"}, "room2", "machine " + mac1 + ` is of two sessions: "room1" and "room2"`},
		{[]string{mac1}, nil, "room2", `session "room2" would take any machine`},
		{nil, nil, "room2", `session "room1" would take any machine`},
		{[]string{mac1}, []string{mac2}, "room1", `session "room1" is there twice`},
	} {
		a, b := twoLabs(t, c.one, c.two)
		a.c.Nodes, b.c.Nodes, b.c.Session = 2, 2, c.session
		err := Several(t.Context(), nil, []Job{{Clone: &a.c}, {Clone: &b.c}}, func(int, Outcome) { t.Error("it has begun") })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
