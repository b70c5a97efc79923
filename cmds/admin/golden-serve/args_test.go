package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden"
)

// The manual's command lines mean what they meant.
func TestManualsCommandLines(t *testing.T) {
	for line, want := range map[string]string{
		"-n 2 -p sda /tmp/desc -r grub":       "clone -n 2 -p sda=/tmp/desc -r grub",
		"-n 2 -p sda=/tmp/desc":               "clone -n 2 -p sda=/tmp/desc",
		"clone -p sda a -p sdb b -X sdc":      "clone -p sda=a -p sdb=b -X sdc",
		"send -n 4 big.iso":                   "send -n 4 big.iso",
		"desc sda":                            "desc sda",
		"--help":                              "--help",
		"-p sda":                              "clone -p sda",
		"-n 2 -p l.yaml -X sdb":               "clone -n 2 -p l.yaml -X sdb",
		"-p sda l.yml -n 1":                   "clone -p sda=l.yml -n 1",
		"nonsense":                            "nonsense",
		"-n 1 -M sda /tmp/mbr -m sdb":         "clone -n 1 -M sda=/tmp/mbr -m sdb",
		"-n 1 -M sda=/tmp/mbr -D sda3":        "clone -n 1 -M sda=/tmp/mbr -D sda3",
		"-n 1 -p sda /root/desc -x /tmp -d 5": "clone -n 1 -p sda=/root/desc -x /tmp -d 5",
	} {
		got := verbFirst(newCommand(), oneWord(strings.Fields(line)))
		if d := cmp.Diff(strings.Fields(want), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestOriginal(t *testing.T) {
	o := cloneFlags{common: common{snapshot: "auto"}, root: "/", disk: diskFlags{loader: "grub --with=jfs --with=ata_piix", layouts: []string{"/dev/sda=/tmp/desc"},
		skip: []string{"sdb|sdc", "sdd"}}, excludes: []string{"/tmp", "/a|/b"}}
	g, err := o.original()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"jfs", "ata_piix"}, g.Loader.With); d != "" || g.Loader.Kind != "grub" {
		t.Errorf("loader %+v", g.Loader)
	}
	if !g.Snapshot {
		t.Error("no snapshot is wanted")
	}
	if g.Descs["sda"] != "/tmp/desc" || len(g.Descs) != 1 {
		t.Errorf("descs %v", g.Descs)
	}
	if d := cmp.Diff([]string{"sdb", "sdc", "sdd"}, g.SkipDisks); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/tmp", "/a", "/b", "/etc/kamethod", "/var/lib/kamethod"}, g.Excludes); d != "" {
		t.Error(d)
	}
}

// TestDiskFlags: what is wrong with a flag is said with the flag.
func TestDiskFlags(t *testing.T) {
	for _, c := range []struct {
		flags diskFlags
		want  string // in the error; empty: none
	}{
		{diskFlags{loader: "auto", layouts: []string{"/tmp/a=b/layout.yaml"}, table: "mbr"}, ""},
		{diskFlags{loader: "--with=ahci", layouts: []string{"sda=x.yaml", "sdb=desc"}}, ""},
		{diskFlags{loader: "lilo --with=jfs"}, ""},
		{diskFlags{loader: "lilo2"}, `"lilo2"`},
		{diskFlags{loader: ""}, "want one of auto, grub"},
		{diskFlags{loader: "auto", table: "bsd"}, "--table bsd"},
		{diskFlags{loader: "auto", layouts: []string{"sda"}}, "-p sda: want a disk and its desc file"},
		{diskFlags{loader: "auto", layouts: []string{"a.yaml", "b.yml"}}, "-p b.yml: a layout file has all disks"},
		{diskFlags{loader: "auto", layouts: []string{"sda=a", "/dev/sda=b"}}, "disk sda has a desc already"},
	} {
		g := golden.Original{}
		if err := c.flags.apply(&g); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.flags, err, c.want)
		}
	}
	o := cloneFlags{common: common{snapshot: "auto", plain: true}, disk: diskFlags{loader: "auto", passphrases: []string{"x"}}}
	if _, err := o.original(); err == nil || !strings.Contains(err.Error(), "--plain") {
		t.Errorf("a passphrase in the clear: %v", err)
	}
}

func TestExitStatus(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), nil, 0},
		{t.Context(), errors.New("usage"), 2},
		{t.Context(), failed{errors.New("1 of 2 nodes failed")}, 1},
		{interrupted, failed{errors.New("interrupted")}, 130},
		{interrupted, nil, 0},
	} {
		if got := exitStatus(c.ctx, c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}
