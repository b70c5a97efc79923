package diskless

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// network hands over the interface that booted. It is up, with its address,
// and stays so; but the lease is the new root's from now on. Who has
// systemd-networkd or ifupdown is told what to do, and who has neither keeps
// the address without renewing it.
func (s *Self) network(in *inside) error {
	if s.ResolvConf != "" {
		b, err := os.ReadFile(s.ResolvConf)
		if err == nil {
			err = in.write("/etc/resolv.conf", b, 0o644)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if s.Lease == nil {
		return nil
	}
	run, err := openInside(s.RunDir)
	if err != nil {
		return err
	}
	defer run.close()
	if err := run.write("/systemd/network/05-kamethod.network", []byte(s.networkd()), 0o644); err != nil {
		return err
	}
	if !in.program("/sbin/ifup") {
		return nil
	}
	return in.write("/etc/network/interfaces", []byte(s.interfaces(in.program("/sbin/dhclient"))), 0o644)
}

// fixed is what the nodes file says of the interface, or nil.
func (s *Self) fixed() *wire.Network {
	for i := range s.Networks {
		if strings.EqualFold(s.Networks[i].MAC, s.Lease.MAC) {
			return &s.Networks[i]
		}
	}
	return nil
}

// networkd is systemd.network(5)'s. The server knows this machine by its
// card's address, and would lease another address to another identifier. The
// address that stage 1 has set stays although networkd has not: golden may have
// been the DHCP server, and is gone.
func (s *Self) networkd() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by kamethod's stage 1: the interface that booted.\n[Match]\nMACAddress=%s\n\n[Network]\n", s.Lease.MAC)
	n := s.fixed()
	if n == nil {
		b.WriteString("DHCP=ipv4\nKeepConfiguration=yes\n\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n")
		return b.String()
	}
	for _, a := range n.Addresses {
		fmt.Fprintf(&b, "Address=%s\n", a)
	}
	if n.Gateway != "" {
		fmt.Fprintf(&b, "Gateway=%s\n", n.Gateway)
	}
	for _, a := range n.DNS {
		fmt.Fprintf(&b, "DNS=%s\n", a)
	}
	if n.Domain != "" {
		fmt.Fprintf(&b, "Domains=%s\n", n.Domain)
	}
	return b.String()
}

// interfaces is interfaces(5)'s.
func (s *Self) interfaces(dhcp bool) string {
	const lo = "# Written by kamethod's stage 1.\nauto lo\niface lo inet loopback\n\n"
	name := s.Lease.Interface
	n := s.fixed()
	switch {
	case n != nil && len(n.Addresses) > 0:
		text := fmt.Sprintf("%sauto %s\niface %s inet static\n\taddress %s\n", lo, name, name, n.Addresses[0])
		if n.Gateway != "" {
			text += "\tgateway " + n.Gateway + "\n"
		}
		return text
	case dhcp:
		return fmt.Sprintf("%sauto %s\niface %s inet dhcp\n", lo, name, name)
	}
	return fmt.Sprintf("%siface %s inet manual\n", lo, name)
}
