package golden

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/archive"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// openDolly opens a file of the manual whose infile lies in the test's folder.
func openDolly(t *testing.T, cfg string, o DollyOptions) (*Dolly, error) {
	t.Helper()
	o.File, o.Log = filepath.Join(t.TempDir(), "dolly.cfg"), slog.New(slog.DiscardHandler)
	if err := os.WriteFile(o.File, []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDolly(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

// Dolly's /dev/ram3: machines in stage 1 get what golden has as their stage 2,
// and nothing is erased; one that isn't named gets nothing; one that boots
// again gets it again.
func TestDollyStage2(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 2)
	cfg, err := os.ReadFile("internal/dollyfile/testdata/003-dolly-stage2.cfg")
	if err != nil {
		t.Fatal(err)
	}
	image := l.write("stage2.img", 1<<20+5)
	packed, err := exec.Command("gzip", "-c", image).Output()
	if err := errors.Join(err, os.WriteFile(image+".gz", packed, 0o600)); err != nil {
		t.Fatal(err)
	}
	named := []Named{{MAC: "52:54:00:00:00:01", Name: "12.12.12.1"}, {MAC: "52:54:00:00:00:02", Name: "12.12.12.2"}, {MAC: "52:54:00:00:00:03", Name: "12.12.12.3"}}
	for _, name := range []string{image, image + ".gz"} {
		d, err := openDolly(t, strings.Replace(string(cfg), "stage2.img", name, 1), DollyOptions{Named: named})
		if err != nil {
			t.Fatal(err)
		}
		if s := d.Source().Streams(); !d.Fetch || d.Nodes() != 3 || len(s) != 1 || s[0].Bytes != 1<<20+5 || len(d.Plan.Copies) > 0 {
			t.Fatalf("%s: %+v, %+v", name, d.Plan, s)
		}
		l.c.Stage2, l.c.Tree, l.c.Fetch, l.c.Wants, l.c.Fits = nil, d.Source(), true, d.Wants(), d.Fits
	}
	l.c.Linger = time.Hour // nobody boots again, and nobody is waited for
	l.c.Confirm = func([]*Node) error { t.Error("asked, though nothing is erased"); return nil }
	l.write("tree", 0)
	want, err := os.ReadFile(image)
	if err := errors.Join(err, os.WriteFile(filepath.Join(l.dir, "tree"), want, 0o600)); err != nil { // for wantDisk
		t.Fatal(err)
	}
	l.start()
	if err := l.machine("52:54:00:00:00:09").register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "is not named in") {
		t.Errorf("a stranger: %v", err)
	}
	one, two := l.machine("52:54:00:00:00:01"), l.machine("52:54:00:00:00:02")
	one.must(wire.Stage1, nil)
	two.must(wire.Stage1, nil)
	for _, m := range []*machine{one, two} {
		_, ended := m.receive()
		m.wantEnd(ended)
		m.wantDisk()
		m.crash() // FetchImage closes its session
		if m == two {
			break
		}
		// In stage 2, while the other one has nothing yet: it is to look again.
		if err := m.register(wire.Stage2, nil); err == nil || !strings.HasPrefix(err.Error(), "503: ") || !strings.Contains(err.Error(), "sends stage 2") {
			t.Errorf("in stage 2: %v", err)
		}
	}
	l.wait()
	if l.err != nil || len(l.result.Nodes) != 2 || l.result.Failed() > 0 || l.result.Touched || l.result.Nodes[0].State != status.Released {
		t.Errorf("%+v, %v", l.result, l.err)
	}
}

func TestDollyClients(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := "infile " + image + "\noutfile /dev/sda\nserver golden\nfirstclient 10.9.8.7\nlastclient alpha.kamethod.invalid\nclients 3\n10.9.8.7\nbeta\nalpha.kamethod.invalid\nendconfig\n"
	d, err := openDolly(t, cfg, DollyOptions{Named: []Named{{MAC: "52:54:00:00:00:0b", Name: "beta"}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "alpha.kamethod.invalid: neither") || d.MACs() != nil {
		t.Errorf("%q, %q", d.Notes, d.MACs())
	}
	w := d.Wants()
	at := netip.MustParseAddr
	for _, c := range []struct {
		r  wire.Register
		ok bool
	}{
		{wire.Register{MAC: "52:54:00:00:00:01", From: at("10.9.8.7")}, true},
		{wire.Register{MAC: "52:54:00:00:00:02", From: at("10.9.8.8")}, false},
		{wire.Register{MAC: "52:54:00:00:00:02", From: at("10.9.8.8"), Hostname: "10.9.8.7"}, false},
		{wire.Register{MAC: "52-54-00-00-00-0B", From: at("10.9.8.9")}, true},
		{wire.Register{MAC: "52:54:00:00:00:0c", From: at("10.9.8.9"), Hostname: "beta"}, false}, // the nodes file knows better
		{wire.Register{MAC: "52:54:00:00:00:0d", From: at("10.9.8.10"), Hostname: "alpha"}, true},
		{wire.Register{MAC: "52:54:00:00:00:0d", From: at("10.9.8.10")}, true},                     // in stage 2
		{wire.Register{MAC: "52:54:00:00:00:0e", From: at("10.9.8.11"), Hostname: "alpha"}, false}, // there is one
		{wire.Register{MAC: "52:54:00:00:00:0e", From: at("10.9.8.11"), Hostname: "alpha.other.invalid"}, false},
	} {
		err := w.Register(c.r)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.r, err)
		}
		if err == nil {
			w.Arrived(c.r)
		}
	}
	// One that is refused for anything else keeps no name from who comes then.
	if d, err = openDolly(t, cfg, DollyOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, mac := range []string{"52:54:00:00:00:0e", "52:54:00:00:00:0d"} {
		if err := d.Wants().Register(wire.Register{MAC: mac, From: at("10.9.8.11"), Hostname: "alpha"}); err != nil {
			t.Errorf("%s: %v", mac, err)
		}
	}
	for _, n := range []Named{{MAC: "52:54:00:00:00:0b", Name: "beta", Label: "local"}, {MAC: "52:54:00:00:00:0b", Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.8.7/24")}, Label: "local"}} {
		if _, err := openDolly(t, cfg, DollyOptions{Named: []Named{n}}); err == nil || !strings.Contains(err.Error(), "whose label is local") {
			t.Errorf("a machine that is to keep its disk: %v", err)
		}
	}
	if !w.Boot("52:54:00:00:00:77", at("10.9.8.77")) {
		t.Error("it could be alpha, which is known by its name alone")
	}
	if d, err = openDolly(t, strings.NewReplacer("\nalpha.kamethod.invalid", "", "alpha.kamethod.invalid", "beta", "clients 3", "clients 2").Replace(cfg),
		DollyOptions{Named: []Named{{MAC: "52:54:00:00:00:0b", Name: "beta"}}}); err != nil {
		t.Fatal(err)
	}
	w = d.Wants()
	if w.Boot("52:54:00:00:00:77", at("10.9.8.77")) || w.Boot("52:54:00:00:00:77", netip.Addr{}) || !w.Boot("52:54:00:00:00:77", at("10.9.8.7")) || !w.Boot("52:54:00:00:00:0b", netip.Addr{}) {
		t.Error("who isn't named may boot, or who is may not")
	}
	small := &Node{Register: wire.Register{Disks: []wire.Device{{Name: "sda", Bytes: 999}}}}
	if err := d.Fits(small); err == nil || !strings.Contains(err.Error(), "/dev/sda has 999 bytes, "+image+" has 1000") {
		t.Errorf("a small disk: %v", err)
	}
	small.Disks[0].Bytes = 1000
	if err := d.Fits(small); err != nil {
		t.Error(err)
	}
}

// What is packed is read to its end first: how large it is, and whether it
// stays in its folder.
func TestDollyCooked(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/tree", 0o755), os.WriteFile(dir+"/tree/a", make([]byte, 70_000), 0o600), os.Symlink("/etc/passwd", dir+"/tree/far")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"tar", "-C", dir + "/tree", "-czf", dir + "/t.tar.gz", "."}, {"gzip", "-k", dir + "/tree/a"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	cfg := "iofiles 2\n" + dir + "/t.tar.gz >> /boot/x\n" + dir + "/tree/a.gz >> /dev/sda5\nserver s\nfirstclient 10.9.8.7\nlastclient 10.9.8.7\nclients 1\n10.9.8.7\nendconfig\n"
	if _, err := openDolly(t, cfg, DollyOptions{}); !errors.Is(err, archive.ErrLeaves) || !strings.Contains(err.Error(), "dolly.cfg:2:") {
		t.Errorf("a link that leaves: %v", err)
	}
	d, err := openDolly(t, cfg, DollyOptions{FarLinks: true, Mounts: []string{"sda1=/boot"}})
	if err != nil {
		t.Fatal(err)
	}
	c := d.Plan.Copies
	if len(c) != 2 || c[0].Bytes != 70_000 || c[0].Archive != "tar" || c[0].Packing != "gz" || !c[0].FarLinks || c[1].Bytes != 70_000 || c[1].Archive != "" || c[1].Packing != "gz" {
		t.Errorf("%+v", c)
	}
	if len(d.Plan.Mounts) != 1 || d.Plan.Mounts[0] != (wire.Mount{Device: "/dev/sda1", At: "/boot"}) || len(d.Notes) > 0 {
		t.Errorf("%+v, %q", d.Plan.Mounts, d.Notes)
	}
}
