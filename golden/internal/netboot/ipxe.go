package netboot

import (
	"path"
	"strings"

	"github.com/insomniacslk/dhcp/iana"
)

// iPXE boots a script, over HTTP if it was built with that, and the script's
// own address says to whom it belongs. A BIOS takes over again at its end.
// UEFI doesn't go on to its next entry in bounded time, so there iPXE starts
// GRUB, which finds the disk's boot loader.

const ipxeFeatureHTTP = 0x13 // sub-option of 175, iPXE src/include/ipxe/features.h

// ipxeHasHTTP reads the features that iPXE lists in option 175.
func ipxeHasHTTP(b []byte) bool {
	for len(b) >= 2 {
		n := int(b[1])
		if len(b) < 2+n {
			return false
		}
		if b[0] == ipxeFeatureHTTP && n > 0 && b[2] != 0 {
			return true
		}
		b = b[2+n:]
	}
	return false
}

// localGRUB is the GRUB that iPXE starts for the disk of an EFI machine;
// empty if there is none.
func (s *Server) localGRUB(c Client) string {
	row, ok := rowOf(c.Arch)
	if !ok || c.Arch == iana.INTEL_X86PC { // not known by DHCP: most are this
		row, _ = rowOf(iana.EFI_X86_64)
	}
	for _, f := range row.files {
		if strings.HasPrefix(path.Base(f), "grub") && s.has(f) {
			return f
		}
	}
	return ""
}

// onward tells whether the script for the local disk has iPXE load our GRUB:
// then the machine isn't off to its disk before GRUB has its configuration,
// and who goes away after the script leaves it there.
func (s *Server) onward(c Client) bool {
	return c.Arch != iana.INTEL_X86PC && s.localGRUB(c) != ""
}
