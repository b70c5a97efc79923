package doctor

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/iana"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

const (
	// patience is how long firmware takes at most for its next step: OVMF
	// waits 4 s between OFFER and REQUEST.
	patience = 5 * time.Second
	// manyTimes is when a machine that asks is one that gets no further.
	manyTimes = 4
)

func archOf(n int) iana.Arch { return iana.Arch(n) }

// archName is an architecture as an administrator would call it.
func archName(a iana.Arch) string {
	names := map[iana.Arch]string{0: "BIOS (0)", 6: "UEFI 32 bit (6)", 7: "UEFI x64 (7)", 9: "UEFI x64 (9)", 10: "UEFI arm 32 bit (10)", 11: "UEFI arm64 (11)",
		15: "UEFI 32 bit by HTTP (15)", 16: "UEFI x64 by HTTP (16)", 18: "UEFI arm 32 bit by HTTP (18)", 19: "UEFI arm64 by HTTP (19)"}
	if n := names[a]; n != "" {
		return n
	}
	return fmt.Sprintf("%v (%d)", a, int(a))
}

// diagnose says what is wrong with what was heard until now.
func (e *exam) diagnose(w *watch, now time.Time) []Finding {
	var out []Finding
	for _, m := range w.order {
		if e.Node == nil || mac(e.Node) == m.mac {
			out = append(out, e.patient(m, now)...)
		}
	}
	out = append(out, e.strangers(w)...)
	out = append(out, e.unreachable(w)...)
	for name, macs := range w.elsewhere {
		for hw := range macs {
			if w.machines[hw] == nil {
				out = append(out, Finding{"wire.interface", Error, net.HardwareAddr(hw[:]).String(), fmt.Sprintf("asks for a boot file on %s, and %s is the interface that is served", name, e.ifi.Name),
					fmt.Sprintf("use --interface %s, or move the cable", name)})
			}
		}
	}
	switch {
	case e.Node != nil && w.machines[mac(e.Node)] == nil:
		out = append(out, Finding{"wire.silent", Warning, e.Node.String(), fmt.Sprintf("said nothing on %s for %v", e.ifi.Name, e.Watch),
			"switch it on while the doctor watches (--watch 2m), let it boot from the network first, and look at its cable, the switch's VLAN and spanning tree (portfast)"})
	case len(w.order) == 0:
		out = append(out, Finding{"wire.silent", Note, e.ifi.Name, fmt.Sprintf("no machine booted or asked for an address within %v", e.Watch), "switch a node on while the doctor watches (--watch 2m)"})
	case len(out) == 0:
		out = append(out, Finding{"wire.ok", OK, e.ifi.Name, fmt.Sprintf("%d machines were heard, none of them in trouble", len(w.order)), ""})
	}
	return out
}

// patient looks at one machine: the first thing that went wrong.
func (e *exam) patient(m *machine, now time.Time) []Finding {
	subject := net.HardwareAddr(m.mac[:]).String()
	waited := func(since time.Time) bool { return !since.IsZero() && now.Sub(since) >= patience }
	var out []Finding
	add := func(id string, s Severity, what, do string) { out = append(out, Finding{id, s, subject, what, do}) }

	if m.boots() && m.arch >= 0 && !e.serves(m) && m.bootOffer.IsZero() {
		add("wire.arch", Error, fmt.Sprintf("is of an architecture for which there is no boot file: %s (%s)", m.archText(), m.class), e.loaderFor(m))
	}
	for _, name := range m.lacking() {
		add("wire.missing", Error, fmt.Sprintf("asks for %q and doesn't get it", name), e.missingDo(name))
	}
	offered := !m.offer.IsZero() || m.requests > 0
	switch {
	case len(out) > 0:
	case !offered && m.discovers >= manyTimes && !m.boots():
		add("wire.noaddress", Warning, fmt.Sprintf("asked %d times for an address and takes none: nobody offers one", m.discovers), e.addressDo())
	case !offered && m.boots() && m.discovers > 1:
		add("wire.noaddress", Error, fmt.Sprintf("asked %d times for an address and takes none: nobody offers one", m.discovers), e.addressDo())
	case m.boots() && m.bootOffer.IsZero() && offered && e.DHCP != netboot.DHCPOff && !fileless(m):
		add("wire.nofile", Warning, "is offered an address but no boot file: golden-serve doesn't run, or isn't to boot this machine", "golden-serve nodes shows its state; arm it, or put it on the list of --macs")
	case m.requests == 0 && waited(m.offer) && m.boots():
		add("wire.norequest", Error, fmt.Sprintf("was offered an address, but doesn't take it (%d questions)", m.discovers),
			"the offer doesn't reach it, or isn't what it wants: look at the switch (DHCP snooping drops offers of ports that aren't trusted), and at a second DHCP server")
	case m.boots() && m.fetches == 0 && !m.bootOffer.IsZero() && waited(m.took):
		add("wire.nofetch", Error, "took its address, was told its boot file, but doesn't ask for it",
			"look at a firewall between it and this machine (UDP port 69), at the address after \"boot file … from\" (--node tells it), and whether its firmware asks port 4011")
	case m.boots() && m.discovers >= 2*manyTimes:
		add("wire.again", Warning, fmt.Sprintf("asks again and again: %d times for an address, %d files", m.discovers, m.fetches), fmt.Sprintf("golden-serve doctor --node %s --watch 2m tells its story; look at its screen", subject))
	case m.naks > 1:
		add("wire.refused", Warning, fmt.Sprintf("was refused its address %d times", m.naks), "two DHCP servers with different pools do this")
	}
	return out
}

// serves tells whether there is a boot file for a machine, or a kernel for one
// that needs no boot file.
func (e *exam) serves(m *machine) bool {
	return slices.ContainsFunc(netboot.BootFiles(), func(b netboot.BootFile) bool { return int(b.Arch) == m.arch && e.bootable(b.File) })
}

// fileless tells a machine that reads PXELINUX configurations itself.
func fileless(m *machine) bool {
	return slices.ContainsFunc(netboot.BootFiles(), func(b netboot.BootFile) bool { return int(b.Arch) == m.arch && b.Kernel })
}

// loaderFor says how to serve an architecture.
func (e *exam) loaderFor(m *machine) string {
	for _, b := range netboot.BootFiles() {
		if int(b.Arch) == m.arch {
			return fmt.Sprintf("%s has no %s: install the boot loader's package and %s", e.TFTPRoot, b.File, makeAgain)
		}
	}
	return "golden-serve has no boot loader for such machines; if its firmware can boot otherwise (BIOS or CSM, UEFI x64), choose that"
}

// lacking are the files that are really missing: a boot loader that looks for
// its configuration tries many names, and needs one.
func (m *machine) lacking() []string {
	var out []string
	for _, n := range m.missing {
		if (!lookUp(n) || !m.config) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if i := slices.IndexFunc(out, lookUp); i >= 0 { // one of them tells it
		out = slices.DeleteFunc(out, func(n string) bool { return lookUp(n) && n != out[i] })
	}
	return out
}

func (e *exam) missingDo(name string) string {
	clean := strings.TrimLeft(strings.ReplaceAll(name, `\`, "/"), "/")
	switch {
	case lookUp(name):
		return "golden-serve makes this file for machines of the session; is the TFTP server that it asks golden-serve?"
	case e.has(clean):
		return fmt.Sprintf("%s has it: start golden-serve anew with this --tftp-root, or look which server the machine asks", e.TFTPRoot)
	}
	return fmt.Sprintf("%s has no such file: enter another boot file in the DHCP server, or %s", e.TFTPRoot, makeAgain)
}

func (e *exam) addressDo() string {
	if e.DHCP == netboot.DHCPFull {
		return "look whether golden-serve runs with --dhcp full on this interface, and at the firewall (UDP port 67)"
	}
	return "switch the network's DHCP server on, or use --dhcp full"
}

// strangers are servers heard on the wire that boot machines and aren't ours.
func (e *exam) strangers(w *watch) []Finding {
	var out []Finding
	for o := range w.offers {
		if e.own[o.server] || o.file == "" {
			continue
		}
		what := fmt.Sprintf("tells machines to boot %q", clean(o.file))
		severity := Error
		if e.DHCP == netboot.DHCPOff || e.DHCP == netboot.DHCPProxy && o.address {
			severity = Warning
		}
		out = append(out, Finding{"wire.server", severity, o.server.String(), what + ", and isn't golden-serve", "stop it, or take the boot file (options 66 and 67) out of it; with --dhcp off enter golden's"})
	}
	for s := range w.chosen {
		if e.DHCP == netboot.DHCPFull && !e.own[s] {
			out = append(out, Finding{"wire.server", Error, s.String(), "gives machines addresses that they take, and isn't golden-serve", "stop it, or use --dhcp proxy"})
		}
	}
	slices.SortFunc(out, func(a, b Finding) int { return strings.Compare(a.Subject+a.What, b.Subject+b.What) })
	return out
}

// unreachable is what ICMP told.
func (e *exam) unreachable(w *watch) []Finding {
	var out []Finding
	for from := range w.tooBig {
		out = append(out, Finding{"wire.mtu", Error, from.Addr().String(), "says that frames are too large for what lies behind it: its MTU is smaller than that of " + e.ifi.Name,
			fmt.Sprintf("give all interfaces on the way the same MTU (ip link set %s mtu %d)", e.ifi.Name, ethernetMTU)})
	}
	for _, s := range e.services() {
		number := byte(17) // UDP, IANA protocol numbers
		if s.proto == "tcp" {
			number = 6
		}
		if e.runs && w.rejected[rejection{number, uint16(s.port)}] {
			out = append(out, Finding{"wire.rejected", Error, s.String(), "a node asked for " + s.what + " and was sent away", e.whySilent(s.port)})
		}
	}
	slices.SortFunc(out, func(a, b Finding) int { return strings.Compare(a.Subject, b.Subject) })
	return out
}
