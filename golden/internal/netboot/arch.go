package netboot

import (
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/iana"
)

// bootRow is what machines of one architecture are sent.
type bootRow struct {
	arch iana.Arch
	// files are boot files, the best first. One counts if it is on the
	// allow-list, and shim only together with the GRUB that it starts.
	files []string
	// useOffer sends option 43 with sub-option 6 = 8: boot the file of this
	// offer without a discovery on port 4011. See Config.Option43.
	useOffer bool
	http     bool // the firmware wants a URL (RFC 5970, UEFI 2.10 24.7)
	// cpu is the folder below images/ with this processor's kernel and
	// stage 1; empty: x86, in images/ itself.
	cpu string
	// byConfig is firmware that needs no boot file, because it reads
	// PXELINUX configurations itself.
	byConfig bool
}

// bootTable says which file starts which firmware, by the codes of RFC 4578
// 2.1 and IANA's processor architecture types. SYSLINUX for EFI is left out:
// its network stack is faulty and there is none for arm64. So is the
// Raspberry Pi's boot ROM (41): it asks for firmware by serial number, which
// isn't ours to give. A Pi 5 and its like go by Config.BootFiles.
//
// GRUB as Debian signs it has no HTTP, so HTTP boot goes by iPXE.
func bootTable() []bootRow {
	return []bootRow{
		{arch: iana.INTEL_X86PC, files: []string{"lpxelinux.0", "pxelinux.0", "undionly.kpxe"}, useOffer: true},
		{arch: iana.INTEL_X86PC_HTTP, files: []string{"undionly.kpxe"}, http: true},
		{arch: iana.EFI_X86_64, files: efiX64(), useOffer: true},
		{arch: iana.EFI_BC, files: efiX64(), useOffer: true}, // byte code in RFC 4578; some x64 firmware sends it (erratum 4624)
		{arch: iana.EFI_X86_64_HTTP, files: []string{"snponly.efi", "ipxe.efi"}, http: true},
		{arch: iana.EFI_BC_HTTP, files: []string{"snponly.efi", "ipxe.efi"}, http: true},
		{arch: iana.EFI_IA32, files: []string{"shimia32.efi", "grubia32.efi", "i386-efi/snponly.efi"}, useOffer: true},
		{arch: iana.EFI_X86_HTTP, files: []string{"i386-efi/snponly.efi"}, http: true},
		{arch: iana.EFI_ARM32, files: []string{"grubarm.efi", "arm32-efi/snponly.efi"}, useOffer: true, cpu: "arm"},
		{arch: iana.EFI_ARM32_HTTP, files: []string{"arm32-efi/snponly.efi"}, http: true, cpu: "arm"},
		{arch: iana.EFI_ARM64, files: []string{"shimaa64.efi", "grubaa64.efi", "arm64-efi/snponly.efi"}, useOffer: true, cpu: "arm64"},
		{arch: iana.EFI_ARM64_HTTP, files: []string{"arm64-efi/snponly.efi"}, http: true, cpu: "arm64"},
		{arch: iana.EFI_RISCV32, files: []string{"grubriscv32.efi"}, useOffer: true, cpu: "riscv32"},
		{arch: iana.EFI_RISCV64, files: []string{"grubriscv64.efi", "riscv64-efi/snponly.efi"}, useOffer: true, cpu: "riscv64"},
		{arch: iana.EFI_RISCV64_HTTP, files: []string{"riscv64-efi/snponly.efi"}, http: true, cpu: "riscv64"},
		{arch: iana.UBOOT_ARM32, byConfig: true, cpu: "arm"},
		{arch: iana.UBOOT_ARM64, byConfig: true, cpu: "arm64"},
		{arch: iana.PPC_OPAL, byConfig: true, cpu: "ppc64le"}, // petitboot
	}
}

func efiX64() []string { return []string{"shimx64.efi", "grubx64.efi", "snponly.efi", "ipxe.efi"} }

// rowOf finds the row of an architecture.
func rowOf(arch iana.Arch) (bootRow, bool) {
	for _, r := range bootTable() {
		if r.arch == arch {
			return r, true
		}
	}
	return bootRow{}, false
}

// has tells whether a boot file can be served. A shim without its GRUB
// stops the machine, so it doesn't count.
func (s *Server) has(file string) bool {
	if base, ok := strings.CutPrefix(path.Base(file), "shim"); ok {
		if _, ok := s.cfg.Files[path.Join(path.Dir(file), "grub"+base)]; !ok {
			return false
		}
	}
	_, ok := s.cfg.Files[file]
	return ok
}

// bootFileFor finds the row for the first architecture that we can serve,
// with the one file that is sent.
func (s *Server) bootFileFor(archs []iana.Arch) (row bootRow, file string, ok bool) {
	for _, a := range archs {
		row, known := rowOf(a)
		if f := s.cfg.BootFiles[a]; f != "" { // New has looked for it
			return row, f, true
		}
		if !known || row.http && s.cfg.HTTPPort < 0 {
			continue
		}
		if row.byConfig {
			if _, _, ok := s.kernelOf(a); ok {
				return row, "", true
			}
		}
		for _, f := range s.inOrder(row.files) {
			if s.has(f) {
				return row, f, true
			}
		}
	}
	return bootRow{}, "", false
}

// inOrder puts GRUB, and shim that starts it, last in proxy mode: GRUB takes
// the other server, which gave the address, for its file server too (grub
// 2.06, efinet.c reads dhcp_ack and no proxy offer), and waits there in vain.
func (s *Server) inOrder(files []string) []string {
	if s.cfg.DHCP != DHCPProxy {
		return files
	}
	var first, last []string
	for _, f := range files {
		if strings.HasPrefix(f, "shim") || strings.HasPrefix(f, "grub") {
			last = append(last, f)
		} else {
			first = append(first, f)
		}
	}
	return append(first, last...)
}

// kernelOf names kernel and stage 1 for an architecture. Another processor's
// count only where somebody has put them into the tree.
func (s *Server) kernelOf(arch iana.Arch) (kernel, initrd string, ok bool) {
	row, _ := rowOf(arch)
	kernel = path.Join("images", row.cpu, "vmlinuz")
	initrd = path.Join("images", row.cpu, "all.rdz")
	_, haveKernel := s.cfg.Files[kernel]
	_, haveInitrd := s.cfg.Files[initrd]
	return kernel, initrd, row.cpu == "" || haveKernel && haveInitrd
}

// bootOffer is what a reply says about booting.
type bootOffer struct {
	file     string // boot file or URL
	class    string // option 60
	useOffer bool   // option 43
	prefix   string // option 210, RFC 5071
	config   string // option 209, RFC 5071
}

// offerFor chooses what a machine boots from, or says why nothing fits.
func (s *Server) offerFor(c Client, archs []iana.Arch, ipxeHTTP bool) (bootOffer, string) {
	http := strings.HasPrefix(c.ClassID, "HTTPClient")
	if !http && !strings.HasPrefix(c.ClassID, "PXEClient") && !strings.HasPrefix(c.ClassID, "Etherboot") {
		return bootOffer{}, "this class of firmware is not served"
	}
	row, file, ok := s.bootFileFor(archs)
	o := bootOffer{file: file, class: "PXEClient", useOffer: s.useOffer(row)}
	name := configKey(c.MAC)
	switch {
	case c.isIPXE() && s.scriptFor(row, file, ipxeHTTP):
		o.file = ipxeScript + "-" + name
		if ipxeHTTP && s.cfg.HTTPPort > 0 {
			o.file = s.url(o.file)
		}
		return o, ""
	case !ok:
		return o, s.whyNoFile(archs, http)
	case http:
		return bootOffer{file: s.url(file), class: "HTTPClient"}, ""
	case row.byConfig:
		o.config = pxelinuxDir + name
	case path.Base(file) == "lpxelinux.0" && s.cfg.HTTPPort > 0:
		o.prefix = s.url("") // everything after the loader itself comes by HTTP
	}
	return o, ""
}

// scriptFor tells whether iPXE gets a script rather than a boot file. It must
// not get itself again, so it gets the script wherever the file isn't known
// to be another loader; and where it speaks HTTP, unless somebody chose that
// other loader: the script spares it one.
func (s *Server) scriptFor(row bootRow, file string, ipxeHTTP bool) bool {
	if row.byConfig || row.cpu != "" && file == "" {
		return false
	}
	if !otherLoader(file) {
		return true
	}
	return s.cfg.BootFiles[row.arch] == "" && ipxeHTTP && s.cfg.HTTPPort > 0
}

// otherLoader tells by its name whether a boot file surely isn't iPXE.
func otherLoader(file string) bool {
	base := strings.ToLower(path.Base(file))
	for _, l := range []string{"pxelinux", "grub", "shim", "syslinux", "bootmgfw"} {
		if strings.Contains(base, l) {
			return !strings.Contains(base, "ipxe") && !strings.Contains(base, "snponly")
		}
	}
	return false
}

func (s *Server) whyNoFile(archs []iana.Arch, http bool) string {
	for _, a := range archs {
		switch row, ok := rowOf(a); {
		case !ok:
		case row.http && s.cfg.HTTPPort < 0:
			return "it boots by HTTP, which is switched off here"
		case row.byConfig:
			return "the TFTP root has no images/" + row.cpu + "/vmlinuz and all.rdz"
		case http && s.has("shimx64.efi"):
			return "it boots by HTTP, for which the TFTP root has none of " + strings.Join(row.files, ", ") +
				" (the distribution's shim and GRUB boot by PXE only: choose that in its firmware)"
		default:
			return "the TFTP root has none of " + strings.Join(row.files, ", ")
		}
	}
	return "no boot file is known for it: name one with --boot-file"
}

// useOffer decides on option 43 for a row.
func (s *Server) useOffer(r bootRow) bool {
	switch s.cfg.Option43 {
	case Option43Always:
		return true
	case Option43Never:
		return false
	}
	return r.useOffer
}

// url is where a file is found by HTTP.
func (s *Server) url(file string) string {
	return fmt.Sprintf("http://%v/%s", netip.AddrPortFrom(s.link.self.Addr(), uint16(s.cfg.HTTPPort)), file)
}

// The policies of Config.Option43.
const (
	Option43Auto   = "auto"   // as the table of architectures says
	Option43Always = "always" // "boot from this offer", for all
	Option43Never  = "never"  // never sent; firmware then asks at port 4011
)

// checkLoaders looks at what an administrator chose.
func (c Config) checkLoaders() error {
	switch c.Option43 {
	case "", Option43Auto, Option43Always, Option43Never:
	default:
		return fmt.Errorf("option 43 %q: want %s, %s or %s", c.Option43, Option43Auto, Option43Always, Option43Never)
	}
	for a, f := range c.BootFiles {
		if f == "" {
			continue // the table's choice
		}
		if _, ok := c.Files[f]; !ok {
			return fmt.Errorf("boot file %q of architecture %d: not in the TFTP root", f, uint16(a))
		}
	}
	return nil
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
