package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/cmds/node/internal/fixup"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	plan := put("plan.json", `{"disks":[],"filesystems":[],"loader":{"kind":"none"},"golden":{"hostname":"golden"},"identity":{"hostname":"pc%02d"}}`)
	disks := put("disks.json", `{"disks":[],"filesystems":[]}`)
	name := put("root/etc/hostname", "golden\n")
	put("root/etc/motd", "welcome to golden\n")
	for _, tt := range []struct {
		name string
		o    options
		want string // in the error
	}{
		{"no plan", options{plan: dir + "/none", disks: disks}, "none"},
		{"a plan that is none", options{plan: put("list", "[]"), disks: disks}, "list"},
		{"disks for a plan", options{plan: put("other", `{"filesystem":[]}`), disks: disks}, `unknown field "filesystem"`},
		{"cut short", options{plan: plan, disks: put("short", `{"disks":[`), number: 1}, "short"},
		{"no root", options{plan: plan, disks: disks, root: dir + "/gone", number: 1}, "gone"},
		{"no number", options{plan: plan, disks: disks, root: dir + "/root"}, "number 0"},
	} {
		err := run(t.Context(), tt.o, new(bytes.Buffer), new(bytes.Buffer))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	var text, report bytes.Buffer
	o := options{plan: plan, disks: disks, root: filepath.Join(dir, "root"), number: 4}
	if err := run(t.Context(), o, &text, new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "pc04\n" {
		t.Errorf("host name %q, %v", b, err)
	}
	for _, want := range []string{"host name pc04\n", "/etc/hostname: named pc04", "left over /etc/motd:1: golden's host name golden"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	o.unseal = true // there is nothing that could be sealed
	if err := run(t.Context(), o, new(bytes.Buffer), new(bytes.Buffer)); err != nil {
		t.Error(err)
	}
	o.unseal, o.json = false, true
	if err := run(t.Context(), o, &report, new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	var r fixup.Report
	if err := json.Unmarshal(report.Bytes(), &r); err != nil || len(r.Steps) < 12 || r.Steps[len(r.Steps)-1].Name != "leftovers" {
		t.Errorf("%d steps, %v", len(r.Steps), err)
	}
}
