package golden

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/wire"
)

// TestFirmwareAdmitted: a machine that could not boot what the plan makes of
// it is sent away in stage 1, and takes nobody's place.
func TestFirmwareAdmitted(t *testing.T) {
	d := newDeployment(Config{Nodes: 1, Log: slog.New(slog.DiscardHandler)})
	d.clone = &CloneConfig{Plan: wire.Plan{Loader: wire.Loader{Kind: "grub", Lack: []wire.Lack{{Firmware: wire.UEFI, Why: "write efi 512 into the desc"}}}}}
	var err error
	if d.states, err = roster.Open(roster.Config{Max: 1, Log: d.Log}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ mac, firmware, want string }{
		{"52:54:00:77:00:01", wire.UEFI, "UEFI firmware and could not boot as a clone: write efi 512"},
		{"52:54:00:77:00:02", wire.BIOS, ""},
		{"52:54:00:77:00:02", "", ""}, // an older image
		{"52:54:00:77:00:03", wire.BIOS, "full"},
	} {
		err := d.admit(wire.Register{Stage: wire.Stage1, MAC: c.mac, Firmware: c.firmware}, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s with %q: %v, want %q", c.mac, c.firmware, err, c.want)
		}
	}
}
