package netboot

import (
	"bytes"
	"io"
	"testing"

	"github.com/insomniacslk/dhcp/iana"
)

// TestOnward: who is told by iPXE's script to load our GRUB is not off to its
// disk before GRUB has its configuration.
func TestOnward(t *testing.T) {
	s := offWire(t, DHCPFull, func(Client) Answer { return LocalBoot })
	s.cfg.Files["grubx64.efi"] = func() (Content, error) { return memory{bytes.NewReader([]byte("GRUB"))}, nil }
	s.cfg.Event = func(Event) {}
	for _, c := range []struct {
		what, name string
		arch       iana.Arch
		done       bool
	}{
		{"iPXE's script on UEFI", "boot.ipxe-01-52-54-00-77-00-05", iana.EFI_X86_64, false},
		{"iPXE's script on a BIOS", "boot.ipxe-01-52-54-00-77-00-05", iana.INTEL_X86PC, true},
		{"GRUB's configuration", "grub/grub.cfg-01-52-54-00-77-00-05", iana.EFI_X86_64, true},
		{"PXELINUX's configuration", "pxelinux.cfg/01-52-54-00-77-00-05", iana.INTEL_X86PC, true},
	} {
		s.seen.put(Client{MAC: hw(5), IP: addr("10.77.0.60"), Arch: c.arch}, true)
		f, err := s.lookup(c.name, addr("10.77.0.60"))
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		s.events = make(chan Event, 1)
		n, err := io.Copy(io.Discard, f.content)
		s.sent("HTTP", f, addr("10.77.0.60"), n, err)
		e := <-s.events
		if e.Config != c.done || e.MAC.String() != hw(5).String() || e.Err != nil {
			t.Errorf("%s: event %+v, want Config %v", c.what, e, c.done)
		}
	}
}
