package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const onePart = `{"disks":[{"name":"sda","layout":{"table":"dos","parts":[{"number":1,"kind":"primary","type":131,"fill":true}]}}],
"filesystems":[{"disk":0,"part":1,"type":"ext4","mount_point":"/"}],"loader":{"kind":"none"},"golden":{},"identity":{}}`

// TestRefused: what can't be done ends with 2, and names the thing.
func TestRefused(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "plan.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		cfg  config
		args []string
		want string
	}{
		"no plan":    {config{}, nil, "give -plan"},
		"argument":   {config{plan: file(onePart)}, []string{"sda"}, `"sda"`},
		"not there":  {config{plan: "/no/plan"}, nil, "open /no/plan"},
		"no JSON":    {config{plan: file("{")}, nil, "plan.json: unexpected EOF"},
		"a typo":     {config{plan: file(`{"discs":[]}`)}, nil, `unknown field "discs"`},
		"too large":  {config{plan: file(strings.Repeat(" ", maxPlan+1))}, nil, "larger than"},
		"empty":      {config{plan: file("{}"), check: true}, nil, "the plan has none"},
		"no disk":    {config{plan: file(onePart), disks: []string{"nosuch"}}, nil, "disk nosuch: not on this machine"},
		"no disk -c": {config{plan: file(onePart), disks: []string{"nosuch"}, check: true}, nil, "disk nosuch: not on this machine"},
	} {
		var out bytes.Buffer
		c.cfg.out, c.cfg.root = &out, t.TempDir()
		code, err := c.cfg.run(t.Context(), c.args)
		if code != 2 || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d, %v, want 2, %s", name, code, err, c.want)
		}
	}
}
