package netboot

import (
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/iana"
)

// bootRow is what machines of one architecture are sent.
type bootRow struct {
	arch iana.Arch
	file string // TFTP boot file, a name of the allow-list
	// useOffer sends option 43 with sub-option 6 = 8: boot the file of this
	// offer without a discovery on port 4011. Some UEFI firmware wants it
	// absent, hence per row.
	useOffer bool
}

// bootTable says which file starts which firmware. A row whose file isn't
// on the allow-list counts as missing.
func bootTable() []bootRow {
	return []bootRow{
		{arch: iana.INTEL_X86PC, file: "pxelinux.0", useOffer: true}, // RFC 4578 2.1: 0
	}
}

// bootFileFor finds the row for the first architecture that we can serve.
func (s *Server) bootFileFor(archs []iana.Arch) (bootRow, bool) {
	for _, a := range archs {
		for _, r := range bootTable() {
			if _, ok := s.cfg.Files[r.file]; ok && r.arch == a {
				return r, true
			}
		}
	}
	return bootRow{}, false
}

// archOfClass reads "PXEClient:Arch:00007:UNDI:003000" for ROMs that leave
// option 93 out (RFC 4578 2.1 wants it, not all send it).
func archOfClass(class string) (iana.Arch, bool) {
	f := strings.Split(class, ":")
	if len(f) < 3 || f[1] != "Arch" {
		return 0, false
	}
	n, err := strconv.ParseUint(f[2], 10, 16)
	return iana.Arch(n), err == nil
}
