package builder

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someNames = `#	Version: 2023.04.10
# a comment
1af4  Red Hat, Inc.
	1041  Virtio 1.0 network device
	1042  Virtio 1.0 block device
8086  Intel Corporation
	100e  82540EM Gigabit Ethernet Controller
		1028 002e  a subsystem
	7010  82371SB PIIX3 IDE
9999  Nobody
	0001  Nothing
aaaa  All of it
	0001  One
	0002  Two
		0001 0001  a subsystem
C 02  Network controller
	00  Ethernet controller
		30  a way to program it
HID 21  HID
	100e  no device
`

func TestMatchable(t *testing.T) {
	want := `#	Version: 2023.04.10
1af4  Red Hat, Inc.
	1041  Virtio 1.0 network device
8086  Intel Corporation
	100e  82540EM Gigabit Ethernet Controller
aaaa  All of it
	0001  One
	0002  Two
C 02  Network controller
	00  Ethernet controller
		30  a way to program it
`
	aliases := []string{
		"virtio:d00000001v*", "pci:v00008086d0000100Esv*sd*bc*sc*i*",
		"pci:v00008086d*sv*sd*bc01sc01i*", "pci:v0000AAAAd*sv*sd*bc*sc*i*", "acpi*:PNP0303:*", "usb:v9999p*d*dc*",
	}
	if d := cmp.Diff(want, string(matchable([]byte(someNames), aliases))); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func FuzzMatchable(f *testing.F) {
	f.Add(someNames, "pci:v00008086d0000100Esv*sd*bc*sc*i*")
	f.Add("\t\nC\n\t", "usb:v0403p6001d*")
	f.Fuzz(func(t *testing.T, list, alias string) {
		out := matchable([]byte(list), []string{alias})
		if again := matchable(out, []string{alias}); string(again) != string(out) {
			t.Errorf("reduced twice: %q, once: %q", again, out)
		}
		if len(out) > len(list)+strings.Count(list, "\n")+1 {
			t.Errorf("%d bytes of %d", len(out), len(list))
		}
	})
}
