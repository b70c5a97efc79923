package main

import (
	"testing"

	"github.com/kamethod/kamethod/golden/trust"
)

// What stands on dolly's boot lines is the same for the next file, and lets nobody
// into a session of send.
func TestDollyToken(t *testing.T) {
	t.Setenv("KAMETHOD_ETC", t.TempDir())
	first, err := dollyToken()
	if err != nil {
		t.Fatal(err)
	}
	if next, err := dollyToken(); err != nil || next != first || first == "" {
		t.Errorf("%q, then %q, %v", first, next, err)
	}
	if send, err := trust.LoadOrCreateToken(trust.Dir()); err != nil || send == first {
		t.Errorf("send has %q too, %v", send, err)
	}
}
