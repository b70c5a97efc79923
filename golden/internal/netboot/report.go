package netboot

import (
	"bytes"
	"net"
	"net/netip"
	"path"
	"strings"

	"github.com/insomniacslk/dhcp/iana"
)

// DoctorMAC is the address with which doctor asks as a machine would. Such a
// question is answered "local boot" and reported to nobody: it takes no place
// in a session and appears in no list of machines. The address is locally
// administered (IEEE 802c), its last five bytes spell "kadoc".
func DoctorMAC() net.HardwareAddr {
	return net.HardwareAddr{0x02, 'k', 'a', 'd', 'o', 'c'}
}

func isDoctor(mac net.HardwareAddr) bool { return bytes.Equal(mac, DoctorMAC()) }

// BootFile says which file of the TFTP root starts which firmware.
type BootFile struct {
	Arch iana.Arch
	File string
	// Kernel: the firmware needs no boot file, it reads PXELINUX
	// configurations; File is the kernel that those name.
	Kernel bool
}

// BootFiles is the table by which DHCP chooses the boot file. Of several for
// an architecture the first that the TFTP root has is sent.
func BootFiles() []BootFile {
	var out []BootFile
	for _, r := range bootTable() {
		for _, f := range r.files {
			out = append(out, BootFile{Arch: r.arch, File: f})
		}
		if r.byConfig {
			out = append(out, BootFile{Arch: r.arch, File: path.Join("images", r.cpu, "vmlinuz"), Kernel: true})
		}
	}
	return out
}

// PortHolder names the processes that hold a local port, "dnsmasq (pid 12)",
// or nothing. proto is udp or tcp.
func PortHolder(proto string, port int) string {
	return strings.TrimPrefix(portHolder(proto, port), " by ")
}

// ByHTTP says whether firmware of an architecture boots by HTTP.
func ByHTTP(a iana.Arch) bool {
	r, _ := rowOf(a)
	return r.http
}

// UpperHalf are the addresses that are leased where nobody says which.
func UpperHalf(network netip.Prefix) (from, to netip.Addr) { return upperHalf(network) }
