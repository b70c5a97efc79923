package trust

import (
	"bytes"
	"errors"
	"testing"
)

func TestSignature(t *testing.T) {
	golden, err := New()
	if err != nil {
		t.Fatal(err)
	}
	other, err := New()
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("reboot")
	key, sig, err := golden.Sign("exec", text)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(golden.Pin, "exec", key, sig, text); err != nil {
		t.Errorf("golden's own: %v", err)
	}
	foreign := new(ForeignKeyError)
	if err := Verify(other.Pin, "exec", key, sig, text); !errors.As(err, &foreign) {
		t.Errorf("another pin: %v", err)
	}
	if err := Verify(golden.Pin, "other", key, sig, text); !errors.Is(err, ErrSignature) {
		t.Errorf("another purpose: %v", err)
	}
	if err := Verify(golden.Pin, "exec", key, sig, []byte("reboot!")); !errors.Is(err, ErrSignature) {
		t.Errorf("another text: %v", err)
	}
	_, forged, err := other.Sign("exec", text)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(golden.Pin, "exec", key, forged, text); !errors.Is(err, ErrSignature) {
		t.Errorf("another's signature: %v", err)
	}
	if err := Verify(golden.Pin, "exec", bytes.Repeat([]byte{1}, 10_000), sig, text); err == nil {
		t.Error("a long key is taken")
	}
}
