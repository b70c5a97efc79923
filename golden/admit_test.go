package golden

import (
	"errors"
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

// TestKindAdmitted: a machine that was booted for the other kind of clone is sent
// away in both stages, and what golden's own boot servers have machines boot
// fits what they get.
func TestKindAdmitted(t *testing.T) {
	copies := wire.Plan{Copies: []wire.Copy{{To: "/dev/sda"}}}
	for _, c := range []struct {
		plan        wire.Plan
		fetch       bool
		word, wants string
		own         string // what boots by golden's own servers; empty: kamethod
	}{
		{wire.Plan{}, false, wire.KaMethod, "", ""},
		{wire.Plan{}, false, wire.DollyMethod, "boot it with kamethod", ""},
		{wire.Plan{}, false, wire.DollyCMethod, "booted with dollyCmethod", ""},
		{wire.Plan{}, false, "", "", ""}, // an older image
		{copies, false, wire.KaMethod, "boot it with dollymethod", wire.DollyMethod},
		{copies, false, wire.DollyMethod, "", wire.DollyMethod},
		{copies, false, wire.DollyCMethod, "", wire.DollyMethod},
		{copies, false, "", "", wire.DollyMethod},
		{wire.Plan{}, true, wire.KaMethod, "", wire.DollyMethod}, // stage 2, whatever comes then
		{wire.Plan{}, true, wire.DollyMethod, "", wire.DollyMethod},
	} {
		l := newLab(t, 1)
		l.c.Plan, l.c.Fetch = c.plan, c.fetch
		d, err := newClone(l.c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.abandon() })
		cfg, err := d.clone.Boot.config(newHub([]*deployment{d}), d.Log)
		if err != nil {
			t.Fatal(err)
		}
		line := ""
		if cfg.Own != nil {
			line = strings.Join(cfg.Own(nil).Boot, " ")
		}
		if p, errs := wire.ParseCmdline(line); p.Replication() != c.own || len(errs) > 0 {
			t.Errorf("%+v: golden's own boot line is %q, %v", c, line, errs)
		}
		for _, stage := range []string{wire.Stage1, wire.Stage2} {
			if c.fetch && stage == wire.Stage2 {
				continue
			}
			err := d.admit(wire.Register{Stage: stage, MAC: "52:54:00:77:00:01", Replication: c.word}, nil)
			if c.wants == "" && err != nil || c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants)) {
				t.Errorf("%s, %+v: %v", stage, c, err)
			}
		}
	}
}

// TestOverAdmitted: the end of a session that sends stage 2 is not the end for
// who comes from it, or for it: another golden-serve follows.
func TestOverAdmitted(t *testing.T) {
	for _, c := range []struct {
		fetch  bool
		resume *wire.Resume
		later  bool
	}{{true, nil, true}, {true, &wire.Resume{}, false}, {false, nil, false}} {
		d := newDeployment(Config{Nodes: 1, Log: slog.New(slog.DiscardHandler)})
		d.clone, d.closing = &CloneConfig{Fetch: c.fetch}, true
		for _, stage := range []string{wire.Stage1, wire.Stage2} {
			err := d.admit(wire.Register{Stage: stage, Resume: c.resume}, nil)
			if err == nil || !strings.Contains(err.Error(), "is over") || errors.Is(err, errLater) != c.later {
				t.Errorf("%s, %+v: %v", stage, c, err)
			}
		}
	}
}
