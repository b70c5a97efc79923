package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// rival is another DHCP server, and all it offered.
type rival struct {
	server netip.Addr
	local  bool
	ip     netip.Addr // that it would lease
	file   string     // that it would boot
	next   netip.Addr
}

func (r rival) String() string {
	if r.local {
		return fmt.Sprintf("DHCP server %v on this machine", r.server)
	}
	return fmt.Sprintf("DHCP server %v", r.server)
}

// rivals looks at the other DHCP servers: who gives addresses, and who says
// where to boot from.
func (e *exam) rivals(offers []offer) []Finding {
	var list []*rival
	for _, o := range offers {
		if e.ours(o) {
			continue
		}
		i := slices.IndexFunc(list, func(r *rival) bool { return r.server == o.server && r.local == o.local })
		if i < 0 {
			list = append(list, &rival{server: o.server, local: o.local})
			i = len(list) - 1
		}
		r := list[i]
		if o.ip.IsValid() {
			r.ip = o.ip
		}
		if o.boots() {
			r.file, r.next = o.file, o.next
		}
	}
	var out []Finding
	address := false
	for _, r := range list {
		address = address || r.ip.IsValid()
		out = append(out, e.rival(*r))
	}
	switch {
	case address:
	case e.DHCP != netboot.DHCPFull:
		out = append(out, Finding{"dhcp.none", Error, e.ifi.Name, fmt.Sprintf("no DHCP server gives addresses here within %v, and with --dhcp %s golden-serve doesn't either", askTime+slowTime, e.DHCP),
			"switch the network's DHCP server on, or use --dhcp full"})
	case len(list) == 0:
		out = append(out, Finding{"dhcp.alone", OK, e.ifi.Name, "no other DHCP server answers", ""})
	}
	return out
}

func (e *exam) rival(r rival) Finding {
	lease := fmt.Sprintf("offers the address %v", r.ip)
	boot := fmt.Sprintf("boot file %q from %v", clean(r.file), r.next)
	switch {
	case e.DHCP == netboot.DHCPOff && r.file != "":
		return e.delegate(r, boot)
	case e.DHCP == netboot.DHCPOff:
		return Finding{"dhcp.nofile", Error, r.String(), lease + " but no boot file, and with --dhcp off it is the one who has to",
			fmt.Sprintf("enter there next-server %v and filename \"pxelinux.0\" (options 66 and 67), or use --dhcp proxy", e.self.Addr())}
	case !r.ip.IsValid():
		return Finding{"dhcp.otherproxy", Error, r.String(), "is another PXE server: it answers machines that boot with " + boot + "; they take whichever answer comes first",
			"stop it, or have it ignore the nodes"}
	case e.DHCP == netboot.DHCPFull && r.file != "":
		return Finding{"dhcp.other", Error, r.String(), lease + " and " + boot + "; with --dhcp full machines take whichever answer comes first", "stop it, or use --dhcp off and enter golden's boot file there"}
	case e.DHCP == netboot.DHCPFull:
		return Finding{"dhcp.other", Error, r.String(), lease + ": two DHCP servers in one network give the same address twice", "use --dhcp proxy beside it, or stop it"}
	case r.file != "":
		return Finding{"dhcp.otherboot", Warning, r.String(), lease + ", and " + boot + ": many machines take that and never ask golden-serve",
			"take next-server and filename (options 66 and 67) out of its configuration, at least for the nodes; or use --dhcp off and enter golden's there"}
	}
	return Finding{"dhcp.addresses", OK, r.String(), lease + " and no boot file, as it should beside --dhcp proxy", ""}
}

// delegate looks whether a server that boots the machines for us names what
// is there.
func (e *exam) delegate(r rival, boot string) Finding {
	if e.own[r.next] && !e.has(r.file) {
		return Finding{"dhcp.wrongfile", Error, r.String(), fmt.Sprintf("offers %s, and %s has no such file", boot, e.TFTPRoot), "enter pxelinux.0 there"}
	}
	if r.next.IsValid() && !e.own[r.next] && !r.local {
		return Finding{"dhcp.elsewhere", Warning, r.String(), "offers " + boot + ", which is not this machine", fmt.Sprintf("enter %v as next-server (option 66), unless %v has the tree of %s", e.self.Addr(), r.next, e.TFTPRoot)}
	}
	return Finding{"dhcp.boots", OK, r.String(), "offers " + boot, ""}
}
