package netboot

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/kamethod/kamethod/templates"
)

// PXELINUX asks for pxelinux.cfg/ UUID, 01-MAC, the address in hex and one
// digit less each time, then default (syslinux doc/pxelinux.txt). None of
// them is a file: the answer is made out of Decide for the machine that the
// name stands for.
//
// A board may share its UUID with a hundred others, and PXELINUX writes it in
// another byte order than SMBIOS does, so a UUID is answered for the machine
// that asks. A shortened address names no machine and is never found.

const pxelinuxDir = "pxelinux.cfg/"

// pxelinuxConfig makes the configuration that a look-up name stands for.
// who is the machine at the other end, as far as it is known.
func (s *Server) pxelinuxConfig(name string, who Client) ([]byte, Answer, Client, bool) {
	c, ok := s.pxelinuxClient(name, who)
	if !ok {
		return nil, Silent, who, false
	}
	answer := LocalBoot // for a stranger: his disk, never ours
	if c.MAC != nil {
		answer = s.decide(c)
	}
	if answer == Silent && name != "default" {
		return nil, answer, c, false
	}
	s.cfg.Log.Info("boot loader configuration", "mac", c.MAC, "ip", c.IP, "name", name, "answer", answer)
	return s.pxelinuxText(answer), answer, c, true
}

// pxelinuxClient finds the machine behind a look-up name.
func (s *Server) pxelinuxClient(name string, who Client) (Client, bool) {
	if mac, ok := strings.CutPrefix(strings.ToLower(name), "01-"); ok { // 1: Ethernet, RFC 1700
		hw, err := net.ParseMAC(mac)
		if err != nil || len(hw) != 6 || len(mac) != 17 {
			return who, false
		}
		c := s.seen.get(hw)
		if !c.IP.IsValid() {
			c.IP = who.IP
		}
		return c, true
	}
	switch {
	case name == "default":
		return who, true
	case isUUID(name):
		return who, who.MAC != nil
	case len(name) == 8:
		b, err := hex.DecodeString(name)
		if err != nil || strings.ToUpper(name) != name {
			return who, false
		}
		c := s.clientByIP(netip.AddrFrom4([4]byte(b)))
		return c, c.MAC != nil
	}
	return who, false
}

func isUUID(s string) bool {
	ok, err := regexp.MatchString(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`, s)
	return ok && err == nil
}

// pxelinuxText writes the configuration for an answer.
func (s *Server) pxelinuxText(a Answer) []byte {
	var b bytes.Buffer
	data := templates.PXELinux{
		Default: "local",
		Serial:  strings.Contains(s.cfg.Console, "ttyS0"),
		Words:   strings.Join(strings.Fields(s.cfg.Console+" "+s.cfg.Append), " "),
	}
	if a == BootImage {
		data.Default = "kamethod"
		data.Image = true
	}
	if err := templates.WritePXELinux(&b, data); err != nil {
		panic("BUG: pxelinux template: " + err.Error()) // embedded text, fixed fields
	}
	return b.Bytes()
}
