package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

func TestNodesFlag(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes.yaml")
	if err := os.WriteFile(file, []byte("- mac: 52:54:00:00:00:01\n- mac: 52:54:00:00:00:02\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		o    cloneFlags
		n    int
		want string
	}{
		{cloneFlags{}, 0, ""},
		{cloneFlags{who: identityFlags{nodes: file}}, 2, ""},
		{cloneFlags{who: identityFlags{nodes: file}, common: common{nodes: 1}}, 1, ""},
		{cloneFlags{who: identityFlags{nodes: file}, common: common{nodes: 3}}, 3, "names 2 machines"},
		{cloneFlags{who: identityFlags{nodes: file}, macs: "x"}, 0, "give one of them"},
		{cloneFlags{who: identityFlags{nodes: file + "x"}}, 0, "no such file"},
	} {
		err := tt.o.readNodes()
		if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.o.who, err, tt.want)
		}
		if err == nil && tt.o.nodes != tt.n {
			t.Errorf("%d machines, want %d", tt.o.nodes, tt.n)
		}
	}
	o := cloneFlags{who: identityFlags{nodes: file}}
	if err := o.readNodes(); err != nil {
		t.Fatal(err)
	}
	b, err := o.boot()
	if err != nil || len(b.MACs) != 2 || b.MACs[1] != "52:54:00:00:00:02" || len(b.Named) != 2 {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestPlanOfFlags(t *testing.T) {
	t.Setenv("KAMETHOD_ETC", t.TempDir())
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.bak"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var p wire.Plan
	o := identityFlags{mode: wire.IdentityTemplate, scrub: []string{wire.ScrubApps}, post: dir}
	if err := o.plan(&p, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if p.Identity.Mode != wire.IdentityTemplate || len(p.Hooks) != 1 || p.Hooks[0].Name != "a" || len(p.Identity.Scrub) != 1 || !strings.Contains(log.String(), "a.bak") {
		t.Errorf("%+v, log %s", p, &log)
	}
	o.post = filepath.Join(dir, "none")
	if err := o.plan(&p, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--post-dir") {
		t.Errorf("a folder that isn't there: %v", err)
	}
}

func TestNoNVRAM(t *testing.T) {
	t.Setenv("KAMETHOD_ETC", t.TempDir())
	for _, args := range [][]string{nil, {"--no-nvram"}} {
		var o identityFlags
		f := pflag.NewFlagSet("clone", pflag.ContinueOnError)
		o.add(f)
		if err := f.Parse(args); err != nil {
			t.Fatal(err)
		}
		var p wire.Plan
		if err := o.plan(&p, slog.New(slog.DiscardHandler)); err != nil || p.Identity.NoNVRAM != (len(args) > 0) {
			t.Errorf("%v: %+v, %v", args, p.Identity, err)
		}
	}
}

// TestBookHasNoPassphrase: not even a hash that one could be guessed from.
func TestBookHasNoPassphrase(t *testing.T) {
	plan := func(pass, crypt string) wire.Plan {
		return wire.Plan{Secrets: []wire.Secret{{Crypt: crypt, Passphrase: []byte(pass)}}, Excludes: []string{"/x"}}
	}
	text := func(p wire.Plan) string {
		b, err := json.Marshal((&cloneFlags{}).booked(p))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	p := plan("one", "a")
	if one, two := text(p), text(plan("two", "a")); one != two || !strings.Contains(one, "/x") {
		t.Errorf("%s, %s", one, two)
	}
	if len(p.Secrets) != 1 {
		t.Error("the plan itself has lost its secrets")
	}
}

func TestKnownHostsAreSaid(t *testing.T) {
	t.Setenv("KAMETHOD_STATE", t.TempDir())
	var out bytes.Buffer
	o := cloneFlags{common: common{session: "a.b"}}
	o.knownHosts(&out, golden.Result{Nodes: []golden.NodeResult{{Hostname: "alpha", State: status.Released, HostKeys: []string{"ssh-rsa A x"}}}})
	file := filepath.Join(stateDir(), "known_hosts", "a.b")
	b, err := os.ReadFile(file)
	if err != nil || string(b) != "alpha ssh-rsa A\n" || !strings.Contains(out.String(), file) {
		t.Errorf("%q, %v, said %q", b, err, &out)
	}
	out.Reset()
	if o.knownHosts(&out, golden.Result{}); out.Len() > 0 {
		t.Errorf("said %q of nobody", &out)
	}
}

func TestTouchedIsCounted(t *testing.T) {
	var out bytes.Buffer
	touched(&out, golden.NodeResult{MoreFiles: 2, Leftovers: []string{"x"}, Steps: []wire.FixStep{{Files: make([]wire.FixFile, 3), Warnings: []string{"w"}}}}, "/r.json")
	if want := "  5 files changed, 1 warnings, golden is still named in 1 places: /r.json says which and why\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// Two sessions have two files, below the folder and to be seen there.
func TestFileName(t *testing.T) {
	seen := map[string]string{}
	for _, session := range []string{"kamethod", "a.b", "a_b", "a/b", "a%2Fb", "a%b", "a%25b", ".", "..", "../a", ".a", "%2Ea", "_a", "/a", "a."} {
		name := fileName(session)
		if other, twice := seen[name]; twice {
			t.Errorf("%q and %q are both %s", session, other, name)
		}
		seen[name] = session
		if filepath.Base(name) != name || !filepath.IsLocal(name) || name[0] == '.' {
			t.Errorf("%q: file %s", session, name)
		}
	}
	if fileName("room-1_a") != "room-1_a" {
		t.Errorf("a plain name: %s", fileName("room-1_a"))
	}
}
