package main

import (
	"testing"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/status"
)

// A few nodes are told of one by one; a room full of them fits on a line, too.
func TestHowFar(t *testing.T) {
	s := golden.Status{Progress: chain.Progress{Bytes: 200}}
	for i, stored := range []int64{100, 200, 50} {
		s.Nodes = append(s.Nodes, golden.NodeStatus{Number: i + 1, Stored: stored})
	}
	s.Nodes = append(s.Nodes, golden.NodeStatus{Number: 4, State: status.Failed})
	if got, want := howFar(s), " node 1 50 % node 2 100 % node 3 25 %"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for i := range 297 {
		s.Nodes = append(s.Nodes, golden.NodeStatus{Number: i + 5, Stored: 120})
	}
	if got, want := howFar(s), " of 300 nodes 1 have all, the middle one 60 %, node 3 the least: 25 %"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
