package render

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kamethod/kamethod/golden/wire"
	"github.com/kamethod/kamethod/templates"
)

func three() Cluster {
	c := Cluster{Session: "s", Nodes: []Machine{
		{Name: "node31", ID: 31, MAC: "52:54:00:00:00:31", Address: "10.0.1.31", Card: "eth0"},
		{Name: "node32.lab.example", ID: 32, MAC: "52:54:00:00:00:32", Address: "10.0.1.32", Card: "eth1"},
		{Name: "node33", ID: 33, MAC: "52:54:00:00:00:33", Card: "eth0"},
	}}
	c.Node = c.Nodes[0]
	return c
}

// The first is what the manual's script wrote into the image.
func TestOwnTemplates(t *testing.T) {
	var s Set
	if err := s.Add("own", templates.Diskless()); err != nil {
		t.Fatal(err)
	}
	got, err := s.For(three())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"/etc/kerrighed_nodes": "session=1\nnbmin=3\nnode31:eth0\nnode32.lab.example:eth1\nnode33:eth0\n",
		"/etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n" +
			"10.0.1.31 node31\n10.0.1.32 node32.lab.example node32\n",
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for _, f := range got {
		if string(f.Content) != want[f.Path] || f.Mode != 0o644 {
			t.Errorf("%s, mode %o:\n%s\nwant\n%s", f.Path, f.Mode, f.Content, want[f.Path])
		}
	}
	c := three()
	c.Node = c.Nodes[2]
	got, err = s.For(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range got {
		if f.Path == "/etc/hosts" && !strings.Contains(string(f.Content), "127.0.1.1 node33\n") {
			t.Errorf("a machine without an address does not find itself:\n%s", f.Content)
		}
	}
}

func TestUsersFolder(t *testing.T) {
	dir := t.TempDir()
	for name, f := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"etc/kerrighed_nodes.tmpl": {"{{range .Nodes}}{{.ID}} {{.Short}}\n{{end}}me={{.Node.ID}}\n", 0o600},
		"ka/go":                    {"#!/bin/sh\necho {{.Node}}\n", 0o755},
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(f.text), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	var s Set
	if err := s.Add("own", templates.Diskless()); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	got, err := s.For(three())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]wire.RunFile{}
	for _, f := range got {
		seen[f.Path] = f
	}
	if f := seen["/etc/kerrighed_nodes"]; string(f.Content) != "31 node31\n32 node32\n33 node33\nme=31\n" || f.Mode != 0o600 {
		t.Errorf("not the user's: mode %o\n%s", f.Mode, f.Content)
	}
	if f := seen["/ka/go"]; !strings.Contains(string(f.Content), "{{.Node}}") || f.Mode != 0o755 {
		t.Errorf("a file that is no template, mode %o: %s", f.Mode, f.Content)
	}
	if len(seen) != 3 {
		t.Errorf("%d files", len(seen))
	}
}

func TestBadTemplates(t *testing.T) {
	for name, tt := range map[string]struct {
		dir  fstest.MapFS
		want string
	}{
		"an unknown word":   {fstest.MapFS{"etc/x.tmpl": {Data: []byte("\n\n{{.Node.Nmae}}")}}, "bad/etc/x.tmpl:3"},
		"no end":            {fstest.MapFS{"etc/x.tmpl": {Data: []byte("a\n{{range .Nodes}}")}}, "bad/etc/x.tmpl:2"},
		"a function":        {fstest.MapFS{"x.tmpl": {Data: []byte("{{shell `id`}}")}}, `"shell"`},
		"endless":           {fstest.MapFS{"x.tmpl": {Data: []byte(`{{define "a"}}xxxxxxxxxxxxxxxx{{template "a" .}}{{end}}{{template "a" .}}`)}}, "x.tmpl"},
		"too large":         {fstest.MapFS{"x": {Data: make([]byte, wire.MaxRunFile+1)}}, "bad/x: more than"},
		"no name":           {fstest.MapFS{"etc/.tmpl": {Data: []byte("x")}}, "no name"},
		"a link":            {fstest.MapFS{"x": {Mode: os.ModeSymlink, Data: []byte("/etc/passwd")}}, "bad/x: is no file"},
		"one in a hundred":  {many(wire.MaxRunFiles + 1), "more than 64 files"},
		"too much together": {large(20), "one message"},
	} {
		t.Run(name, func(t *testing.T) {
			var s Set
			err := s.Add("bad", tt.dir)
			if err == nil {
				_, err = s.For(three())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func many(n int) fstest.MapFS {
	m := fstest.MapFS{}
	for i := range n {
		m["f"+strings.Repeat("x", i)] = &fstest.MapFile{}
	}
	return m
}

func large(n int) fstest.MapFS {
	m := many(n)
	for _, f := range m {
		f.Data = make([]byte, wire.MaxRunFile)
	}
	return m
}

func FuzzTemplate(f *testing.F) {
	f.Add("{{range .Nodes}}{{.Name}}:{{.Card}}\n{{end}}")
	f.Add("{{.Node.Short}}{{with .Session}}{{.}}{{end}}")
	f.Add("{{define")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "template") || strings.Contains(text, "break") || strings.Count(text, "range") > 3 {
			return // one may spend any time it likes
		}
		var s Set
		if s.Add("fuzz", fstest.MapFS{"x.tmpl": {Data: []byte(text)}}) != nil {
			return
		}
		list, err := s.For(three())
		if err == nil && (len(list) != 1 || len(list[0].Content) > wire.MaxRunFile) {
			t.Errorf("%q made %d files", text, len(list))
		}
	})
}
