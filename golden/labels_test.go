package golden

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// Who boots the rescue system by nfs, http or ftp hears its own label's words,
// and none of the session's, in golden-serve run and in a clone.
func TestRescueWords(t *testing.T) {
	one, err := newClone(newLab(t, 1, mac1).c)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub([]*deployment{one})
	var cloning netboot.Config
	if err := h.words(&cloning, netip.MustParseAddr(labAddr)); err != nil {
		t.Fatal(err)
	}
	g := &guests{RunConfig: RunConfig{Config: Config{Session: "lab", Token: "secret", Nodes: 1}, Boot: &Boot{DHCP: netboot.DHCPProxy, MACs: []string{mac1}}}}
	running := netboot.Config{Append: strings.Join(g.words(netip.MustParseAddr(labAddr), 4321), " "), Decide: g.decide}
	cloning.Decide = h.decide
	for what, c := range map[string]netboot.Config{"clone": cloning, "run": running} {
		b := Boot{Named: []Named{
			{MAC: mac1, Number: 1, Label: "kamethod"}, {MAC: mac2, Number: 2, Label: "http"}, {MAC: mac3, Number: 3, Label: "nfs", Append: "kamethod"},
		}}
		b.own(&c)
		if a := c.Decide(client(t, mac2)); a != netboot.BootImage {
			t.Errorf("%s: the rescue machine hears %v", what, a)
		}
		if got := c.Words(client(t, mac2)); got != "" {
			t.Errorf("%s: the rescue machine hears %q", what, got)
		}
		for _, mac := range []string{mac1, mac3, macNobody} {
			if got := c.Words(client(t, mac)); !strings.Contains(got, "ka.token=") {
				t.Errorf("%s: %s hears %q", what, mac, got)
			}
		}
	}
}

// What a session's own nodes file says of its machine counts, whatever others
// say; of a machine of none they must not say different things.
func TestNamedOfSeveral(t *testing.T) {
	a, b := twoLabs(t, []string{mac1}, []string{mac2})
	a.c.Boot.Named = []Named{{MAC: mac1, Number: 1, Label: "dolly"}, {MAC: mac2, Number: 2, Label: "http"}, {MAC: mac3, Number: 3, Label: "local"}}
	b.c.Boot.Named = []Named{{MAC: mac1, Number: 7, Label: "local"}, {MAC: mac2, Number: 8}, {MAC: mac3, Number: 9, Label: "local"}}
	open := func() []*deployment {
		t.Helper()
		one, err := newClone(a.c)
		if err != nil {
			t.Fatal(err)
		}
		two, err := newClone(b.c)
		if err != nil {
			t.Fatal(err)
		}
		return []*deployment{one, two}
	}
	list := open()
	for range 2 {
		got, err := namedOf(list)
		if err != nil || len(got) != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		for _, n := range got {
			if n.MAC == mac1 && (n.Label != "dolly" || n.Number != 1) || n.MAC == mac2 && (n.Label != "" || n.Number != 8) {
				t.Errorf("%+v is not what its session says", n)
			}
		}
		slices.Reverse(list)
	}
	b.c.Boot.Named[2].Label = "http"
	if _, err := namedOf(open()); err == nil || !strings.Contains(err.Error(), mac3+` is in the nodes files of sessions "room1" and "room2"`) {
		t.Errorf("a machine that is to boot two things: %v", err)
	}
}
