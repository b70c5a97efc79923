package handover

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/cmds/node/internal/nic"
)

func TestSaveLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run/state.json")
	want := &State{
		Server: "10.77.0.1:30765", Session: "a", Token: "t", Interface: "eth0", MAC: "52:54:00:77:00:01", NodeID: 3, KeyFile: KeyFile,
		Lease: &nic.Lease{
			Interface: "eth0", Addr: netip.MustParsePrefix("10.77.0.20/24"), ServerID: netip.MustParseAddr("10.77.0.1"),
			Duration: time.Hour, Acquired: time.Unix(1000, 0).UTC(), Raw: []byte{2, 1, 6},
		},
	}
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: the token is in it", st.Mode(), err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	same := cmp.Comparer(func(x, y netip.Addr) bool { return x == y })
	samePrefix := cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })
	if d := cmp.Diff(want, got, same, samePrefix); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestLoadBad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if _, err := Load(path); err == nil {
		t.Error("no error without a file")
	}
	if err := os.WriteFile(path, []byte(`{"server":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}
