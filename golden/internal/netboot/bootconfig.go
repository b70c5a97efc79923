package netboot

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/templates"
)

// Boot loaders ask for their configuration by names that stand for a machine.
// None of them is a file: the answer is made out of Decide for that machine,
// in the loader's own language.
//
//	pxelinux.cfg/KEY                    PXELINUX, U-Boot, petitboot
//	grub.cfg, grub.cfg-KEY              GRUB, at the root or in a folder of its
//	boot.ipxe, autoexec.ipxe, …-KEY     iPXE

// dialect is the language of a configuration.
type dialect int

const (
	forPXELINUX dialect = iota
	forGRUB
	forIPXE
)

func (d dialect) String() string { return [...]string{"pxelinux", "grub", "ipxe"}[d] }

const (
	pxelinuxDir = "pxelinux.cfg/"
	ipxeScript  = "boot.ipxe"
)

// grubDirs are the folders in which GRUB looks for grub.cfg: Debian's has
// /grub built in, others take the folder that they came from.
func grubDirs() []string {
	return []string{"", "grub/", "grub2/", "boot/grub/", "boot/grub2/", "efi/boot/", "efi/debian/", "efi/ubuntu/", "efi/redhat/", "efi/fedora/"}
}

// configName takes the name of a configuration apart. name is clean.
func configName(name string) (d dialect, key string, ok bool) {
	if key, ok := strings.CutPrefix(name, pxelinuxDir); ok {
		return forPXELINUX, key, true
	}
	dir, base := path.Split(name)
	for _, script := range []string{ipxeScript, "autoexec.ipxe"} { // the second lies beside any iPXE binary
		if key, ok := keyAfter(script, base); ok {
			return forIPXE, key, true
		}
	}
	if key, ok := keyAfter("grub.cfg", base); ok && slices.Contains(grubDirs(), strings.ToLower(dir)) {
		return forGRUB, key, true
	}
	return 0, "", false
}

// keyAfter takes "grub.cfg-KEY" apart; without a key it is the default.
func keyAfter(stem, base string) (string, bool) {
	rest, ok := strings.CutPrefix(base, stem)
	if !ok || rest != "" && rest[0] != '-' {
		return "", false
	}
	if rest == "" {
		return "default", true
	}
	return rest[1:], true
}

// configKey is the look-up name of a machine that we put into our own
// answers: PXELINUX's, with the type of Ethernet before the address.
func configKey(mac net.HardwareAddr) string {
	return "01-" + strings.ReplaceAll(mac.String(), ":", "-")
}

// bootConfig makes the configuration that a look-up key stands for. who is
// the machine at the other end, as far as it is known.
func (s *Server) bootConfig(d dialect, key string, who Client) ([]byte, Answer, Client, bool) {
	c, ok := s.machineOf(key, who)
	if !ok {
		return nil, Silent, who, false
	}
	answer, about := LocalBoot, c // for a stranger: his disk, never ours
	switch {
	case c.MAC == nil:
	case s.boots(c.MAC):
		answer = s.decide(c)
	default:
		about.MAC = nil // of the machine of this name nothing happened
	}
	if answer == Silent && key != "default" {
		return nil, answer, about, false
	}
	if _, _, ok := s.kernelOf(c.Arch); answer == BootImage && !ok {
		s.cfg.Log.Warn("no kernel for this processor: the machine is told to boot its disk", "mac", c.MAC, "arch", c.Arch)
		answer = LocalBoot
	}
	s.cfg.Log.Info("boot loader configuration", "mac", c.MAC, "ip", c.IP, "loader", d, "name", key, "answer", answer)
	return s.configText(d, c, answer), answer, about, true
}

// boots says whether a machine is one that boots: its firmware asked by DHCP,
// and we offered it a boot file. Who only asks for a configuration may be a
// colleague with a browser, and the names may be invented. With DHCP off we
// hear no firmware.
func (s *Server) boots(mac net.HardwareAddr) bool {
	return s.cfg.DHCP == DHCPOff || s.seen.offered(mac)
}

// isAnother says that the machine at the other end, known by our lease or on
// our link, is not the one that it asks for, which may be told what isn't for
// other ears. From behind a router, or from this machine, nobody is known.
func isAnother(c, who Client) bool {
	return who.MAC != nil && !bytes.Equal(c.MAC, who.MAC) && !isDoctor(c.MAC)
}

// machineOf is the one place that finds the machine behind a look-up key.
//
// A board may share its UUID with a hundred others, and PXELINUX writes it in
// another byte order than SMBIOS does, so a UUID is answered for the machine
// that asks. So are "default" and U-Boot's "default-arm-SOC-BOARD". A
// shortened address names no machine and is never found.
func (s *Server) machineOf(key string, who Client) (Client, bool) {
	mac := key
	if len(key) == 20 && strings.HasPrefix(key, "01-") { // 1: Ethernet, RFC 1700
		mac = key[3:]
	}
	if len(mac) == 17 && mac[2] != '.' {
		hw, err := net.ParseMAC(mac)
		if err != nil || len(hw) != 6 {
			return who, false
		}
		c := s.seen.get(hw)
		if !c.IP.IsValid() {
			c.IP = who.IP
		}
		return c, !isAnother(c, who)
	}
	switch {
	case key == "default" || strings.HasPrefix(key, "default-"):
		return who, true
	case isUUID(key):
		return who, who.MAC != nil
	case len(key) == 8:
		b, err := hex.DecodeString(key)
		if err != nil || strings.ToUpper(key) != key {
			return who, false
		}
		c := s.clientByIP(netip.AddrFrom4([4]byte(b)))
		return c, c.MAC != nil && !isAnother(c, who)
	}
	return who, false
}

func isUUID(s string) bool {
	ok, err := regexp.MatchString(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`, s)
	return ok && err == nil
}

// wordsFor are the kernel words for a machine.
func (s *Server) wordsFor(c Client) string {
	if s.cfg.Words == nil {
		return s.cfg.Append
	}
	return s.cfg.Words(c)
}

// configText writes the configuration for an answer.
func (s *Server) configText(d dialect, c Client, a Answer) []byte {
	n := templates.Netboot{
		Image:  a == BootImage,
		Serial: strings.Contains(s.cfg.Console, "ttyS0"),
		GRUB:   s.localGRUB(c),
		Server: s.link.self.Addr().String(),
		Ask:    c.MAC == nil,
	}
	if n.Image {
		n.Kernel, n.Initrd, _ = s.kernelOf(c.Arch)
		n.Words = strings.Fields(s.cfg.Console + " " + s.wordsFor(c))
		n.BootIF = configKey(c.MAC)
		own := s.cfg.Own(c.MAC)
		n.Label, n.Boot, n.NodeID = own.Label, own.Boot, own.NodeID
		if row, _ := rowOf(c.Arch); row.byConfig { // U-Boot knows no SYSAPPEND
			n.Words = append(n.Words, "BOOTIF="+n.BootIF)
		}
	}
	b, err := func() ([]byte, error) {
		switch d {
		case forGRUB:
			return n.GRUBConfig()
		case forIPXE:
			return n.IPXEScript()
		}
		return n.PXELINUXConfig()
	}()
	if err != nil {
		panic(fmt.Sprintf("BUG: template for %v: %v", d, err)) // embedded text, fixed fields
	}
	return b
}
