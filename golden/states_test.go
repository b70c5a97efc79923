package golden

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/iana"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

const one, two, three = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"

func client(t *testing.T, mac string) netboot.Client {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	return netboot.Client{MAC: hw, ClassID: "PXEClient", Arch: iana.EFI_X86_64, IP: netip.MustParseAddr("10.1.2.3"), Loading: true}
}

// What the boot servers ask and tell is what the list hears.
func TestBootServersAndList(t *testing.T) {
	r, err := openStates(CloneConfig{Config: Config{Nodes: 1, Book: &Book{}, Log: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, one)
	for _, step := range []struct {
		want  netboot.Answer
		state roster.State
	}{{netboot.BootImage, roster.Booting}, {netboot.LocalBoot, roster.Done}} {
		if got := decide(r, c); got != step.want {
			t.Fatalf("%v, want %v", got, step.want)
		}
		heard(r, netboot.Event{MAC: c.MAC, IP: c.IP, Config: true, Answer: step.want, What: "sent it"})
		m := r.List()[0]
		if m.State != step.state || m.Arch != c.Arch.String() || m.Address != "10.1.2.3" || m.Home != (step.want == netboot.LocalBoot) {
			t.Errorf("the list has %+v", m)
		}
		r.Finished(one)
	}
	if got := decide(r, client(t, two)); got != netboot.LocalBoot {
		t.Errorf("a second machine of one: %v", got)
	}
	other := client(t, three)
	other.Loading = false
	if got := decide(r, other); got != netboot.Silent {
		t.Errorf("a stranger that only asks: %v", got)
	}
}

// Golden's own network cards are never answered, and can't be named.
func TestOwnCards(t *testing.T) {
	list, err := ownCards()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		mac, err := roster.ParseMAC(s)
		if err != nil {
			continue
		}
		c := CloneConfig{Config: Config{Nodes: 5, Book: &Book{}, Log: slog.New(slog.DiscardHandler)}}
		r, err := openStates(c)
		if err != nil {
			t.Fatal(err)
		}
		if got := decide(r, client(t, mac)); got != netboot.Silent {
			t.Errorf("%s: %v", mac, got)
		}
		if c.Boot.MACs = []string{mac}; r.Arm(c.Boot.MACs) == nil {
			t.Errorf("%s can be armed", mac)
		}
		if _, err := openStates(c); err == nil {
			t.Errorf("%s can be on the list", mac)
		}
		return
	}
	t.Skip("this machine has no network card")
}

// The journal and the record of a session are made to agree, and neither
// widens a list of machines.
func TestRecordAndJournalAgree(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	book := func() *Book {
		b, err := OpenBook(dir, "s", "source", false, log)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := book()
	c := CloneConfig{Config: Config{Session: "s", Nodes: 3, Book: b, Log: log}}
	r, err := openStates(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, mac := range []string{one, two} {
		decide(r, client(t, mac))
		r.Registered(mac, 1, "", "", "")
	}
	r.Finished(one) // the journal knows, the record not yet
	b.page.Nodes = map[string]bookNode{one: {Number: 1, MAC: one, State: status.Fixing}, two: {Number: 2, MAC: two, State: status.Receiving},
		three: {Number: 3, MAC: three, State: status.Released}} // and the other way round
	if err := b.write(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	b.lock.Close() // as if it had been killed
	c.Book = book()
	if r, err = openStates(c); err != nil {
		t.Fatal(err)
	}
	for mac, want := range map[string]netboot.Answer{one: netboot.LocalBoot, two: netboot.BootImage, three: netboot.LocalBoot} {
		if got := decide(r, client(t, mac)); got != want {
			t.Errorf("%s after a restart: %v, want %v", mac, got, want)
		}
	}
	r.Close()
	c.Boot.MACs = []string{three}
	if r, err = openStates(c); err != nil {
		t.Fatal(err)
	}
	for mac, ok := range map[string]bool{one: false, two: false, three: false} {
		if err := r.Admit(mac, false); (err == nil) != ok {
			t.Errorf("%s with another list: %v", mac, err)
		}
	}
	r.Close()
	c.Book.remove()
	time.Sleep(time.Millisecond) // another time is another session
	c.Boot.MACs, c.Book = nil, book()
	if r, err = openStates(c); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := decide(r, client(t, one)); got != netboot.BootImage {
		t.Errorf("a machine that was done in an earlier session: %v", got)
	}
	c.Book.remove()
}

// A session that was broken off and isn't gone on with, for golden's files
// have changed or it was long ago: who was done or had failed in it is told to
// boot its own disk, with or without the journal, and with --yes just the same.
// --fresh clones all anew.
func TestDoneStaysDoneWhenTheRecordIsSetAside(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, how := range []string{"changed", "long ago", "changed, journal lost", "changed, and killed again", "record of no use", "fresh"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			open := func(source string, fresh bool) (*Book, *roster.Roster) {
				t.Helper()
				b, err := OpenBook(dir, "s", source, fresh, log)
				if err != nil {
					t.Fatal(err)
				}
				r, err := openStates(CloneConfig{Config: Config{Session: "s", Nodes: 4, Book: b, Log: log}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { r.Close() })
				return b, r
			}
			killed := func(b *Book, r *roster.Roster) {
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				b.lock.Close()
			}
			const away = "52:54:00:00:00:04"
			b, r := open("source", false)
			for _, mac := range []string{one, two, three, away} {
				decide(r, client(t, mac))
				r.Registered(mac, 1, "", "", "")
			}
			r.Finished(one)
			r.Failed(two, "mkfs")
			said := status.Fixing // the journal knows more
			if how == "changed, journal lost" {
				said = status.Done
			}
			b.page.Nodes = map[string]bookNode{one: {Number: 1, MAC: one, State: said, Confirmed: "x"}, two: {Number: 2, MAC: two, State: status.Failed},
				three: {Number: 3, MAC: three, State: status.Receiving}, away: {Number: 4, MAC: away, State: status.Failed, Lost: true}}
			b.begun()
			if err := b.write(); err != nil {
				t.Fatal(err)
			}
			killed(b, r)
			source := "other"
			switch how {
			case "long ago":
				old := time.Now().Add(-2 * maxAway)
				if err := os.Chtimes(b.path, old, old); err != nil {
					t.Fatal(err)
				}
				source = "source"
			case "record of no use":
				if err := os.WriteFile(b.path, []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			case "changed, journal lost":
				if err := os.Remove(b.journal()); err != nil {
					t.Fatal(err)
				}
			}
			b, r = open(source, how == "fresh")
			if how == "changed, and killed again" { // and once more, resumed
				killed(b, r)
				b, r = open(source, false)
			}
			ended := netboot.LocalBoot
			if how == "fresh" {
				ended = netboot.BootImage
			}
			for mac, want := range map[string]netboot.Answer{one: ended, two: ended, three: netboot.BootImage, away: netboot.BootImage} {
				if got := decide(r, client(t, mac)); got != want {
					t.Errorf("%s: %v, want %v", mac, got, want)
				}
			}
			if b.page.Nodes[one].Confirmed != "" || b.expected() != 0 {
				t.Errorf("consent %q, and %d are waited for", b.page.Nodes[one].Confirmed, b.expected())
			}
			if how == "changed, journal lost" && r.State(one) == roster.Done && b.numbers()[one] != 1 {
				t.Error("another machine may have its number")
			}
			if err := r.Arm([]string{one}); err != nil || decide(r, client(t, one)) != netboot.BootImage {
				t.Errorf("armed by word: %v", err)
			}
		})
	}
}

// Where only the journal is lost, the record says who has failed for good, and
// who may come back.
func TestFailedByTheRecord(t *testing.T) {
	gone, failed := newNode(wire.Register{MAC: one}), newNode(wire.Register{MAC: two})
	gone.fail(silent, "receiving", "silent")
	failed.fail(notLost, "preparing", "no disk")
	b := &Book{}
	b.put(gone, "")
	b.put(failed, "")
	b.earlier = b.page.Nodes
	r, err := openStates(CloneConfig{Config: Config{Nodes: 2, Book: b, Log: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	for mac, want := range map[string]netboot.Answer{one: netboot.BootImage, two: netboot.LocalBoot} {
		if got := decide(r, client(t, mac)); got != want {
			t.Errorf("%s: %v, want %v", mac, got, want)
		}
	}
}
