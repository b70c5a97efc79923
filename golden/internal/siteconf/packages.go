package siteconf

import "slices"

// PackageManager is how a family of distributions installs programs.
type PackageManager struct {
	For     []string // ID or ID_LIKE of os-release(5)
	Command []string
	names   map[string][]string // packages by kind
}

// PackageManagers are those whose package names are known. The PXE daemon of
// the manuals isn't packaged any more: dnsmasq does what it did.
func PackageManagers() []PackageManager {
	return []PackageManager{
		{[]string{"debian", "ubuntu"}, []string{"apt-get", "install"}, map[string][]string{
			"dhcpd": {"isc-dhcp-server"}, "dnsmasq": {"dnsmasq"}, "kea": {"kea-dhcp4-server"}, "pxe": {"dnsmasq"},
			"xinetd": {"xinetd", "tftpd-hpa"}, "tftpd-hpa": {"tftpd-hpa"}, "pxelinux": {"pxelinux", "syslinux-common"}}},
		{[]string{"fedora", "rhel", "centos"}, []string{"dnf", "install"}, map[string][]string{
			"dhcpd": {"dhcp-server"}, "dnsmasq": {"dnsmasq"}, "kea": {"kea"}, "pxe": {"dnsmasq"},
			"xinetd": {"xinetd", "tftp-server"}, "tftpd-hpa": {"tftp-server"}, "pxelinux": {"syslinux-tftpboot"}}},
	}
}

// Packages are those of some kinds, each once.
func (m PackageManager) Packages(kinds []string) []string {
	var out []string
	for _, k := range kinds {
		for _, p := range m.names[k] {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}
