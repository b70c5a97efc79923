package main

import (
	"slices"
	"testing"
)

// The golden node's key and state stay with it, wherever they are.
func TestKeysAreNotCloned(t *testing.T) {
	t.Setenv("KAMETHOD_ETC", "/srv/keys")
	t.Setenv("KAMETHOD_STATE", "/srv/state/")
	o := cloneFlags{root: "/", disk: diskFlags{loader: "none"}, excludes: []string{"/tmp|/etc/kamethod"}}
	o.snapshot = "off"
	g, err := o.original()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/tmp", "/etc/kamethod", "/srv/keys", "/srv/state", "/var/lib/kamethod"}
	if !slices.Equal(g.Excludes, want) {
		t.Errorf("left out: %q, want %q", g.Excludes, want)
	}
}
