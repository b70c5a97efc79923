package doctor

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// Bounds of what a flood on the wire can take.
const (
	maxMachines = 4096
	maxSteps1   = 500 // of one machine
	maxOpen     = 4096
	maxMissing  = 64
)

// watch gathers what the machines on the wire say and hear.
type watch struct {
	machines  map[mac]*machine
	order     []*machine
	tftp      map[netip.AddrPort]*request // by the client's port
	http      map[netip.AddrPort]*request
	offers    map[offered]bool
	chosen    map[netip.Addr]bool     // servers whose address a machine took
	tooBig    map[netip.AddrPort]bool // ICMP "fragmentation needed" came from there
	rejected  map[rejection]bool
	frames    int
	elsewhere map[string]map[mac]bool // other interfaces, and who boots there
}

// machine is one that boots, or asks for an address.
type machine struct {
	mac       mac
	steps     []Step
	last      time.Time
	class     string
	arch      int // -1: not told
	userClass string

	discovers, requests, naks, fetches int

	// A server's answers to others aren't always heard: a switch brings them
	// to the machine alone.
	bootOffer, offer, took time.Time // when it was last heard that it is offered a boot file, an address; takes one
	fetched                time.Time
	missing                []string // files that it asked for and didn't get
	config                 bool     // it got a boot loader configuration
}

// request is a file that was asked for.
type request struct {
	m     *machine
	name  string
	begun bool
}

// offered is what a server on the wire gives.
type offered struct {
	server  netip.Addr
	address bool
	file    string
}

// rejection is a packet of a node that this machine's firewall sent back.
type rejection struct {
	proto byte
	port  uint16
}

func newWatch() *watch {
	return &watch{machines: map[mac]*machine{}, tftp: map[netip.AddrPort]*request{}, http: map[netip.AddrPort]*request{},
		offers: map[offered]bool{}, chosen: map[netip.Addr]bool{}, tooBig: map[netip.AddrPort]bool{}, rejected: map[rejection]bool{}, elsewhere: map[string]map[mac]bool{}}
}

// machine finds or makes the record of one; nil: there are too many, or it is
// the doctor.
func (w *watch) machine(hw mac) *machine {
	if m := w.machines[hw]; m != nil {
		return m
	}
	if len(w.machines) >= maxMachines || hw == mac(netboot.DoctorMAC()) || hw[0]&1 != 0 || hw == (mac{}) {
		return nil
	}
	m := &machine{mac: hw, arch: -1}
	w.machines[hw] = m
	w.order = append(w.order, m)
	return m
}

func (m *machine) step(at time.Time, format string, args ...any) {
	m.last = at
	if len(m.steps) < maxSteps1 {
		m.steps = append(m.steps, Step{at, clean(fmt.Sprintf(format, args...))})
	}
}

// add takes a frame in.
func (w *watch) add(at time.Time, b []byte) {
	f, ok := parseFrame(b)
	if !ok {
		return
	}
	w.frames++
	switch f.proto {
	case unix.IPPROTO_UDP:
		w.udp(at, f)
	case unix.IPPROTO_TCP:
		w.tcp(at, f)
	case unix.IPPROTO_ICMP:
		w.icmp(f)
	}
}

func (w *watch) udp(at time.Time, f frame) {
	from, to := f.from.Port(), f.to.Port()
	switch {
	case to == 67 || to == 4011 || (from == 67 || from == 4011) && (to == 68 || to == 67):
		if m, err := dhcpv4.FromBytes(f.payload); err == nil {
			w.dhcp(at, f, m)
		}
	case to == 69:
		w.ask69(at, f)
	case len(f.payload) >= 4:
		if r := w.tftp[f.to]; r != nil {
			w.answer69(at, f, r)
		} else if r := w.tftp[f.from]; r != nil && f.payload[0] == 0 && f.payload[1] == tftpError && f.payload[3] != 8 {
			r.m.step(at, "gives up on %s: TFTP error %d, %s", r.name, f.payload[3], text(f.payload[4:]))
		}
	}
}

// dhcp takes a message in, of a client or a server.
func (w *watch) dhcp(at time.Time, f frame, d *dhcpv4.DHCPv4) {
	if len(d.ClientHWAddr) != 6 {
		return
	}
	m := w.machine(mac(d.ClientHWAddr))
	if m == nil {
		return
	}
	if d.OpCode == dhcpv4.OpcodeBootRequest {
		m.asks(at, f, d)
		if s := v4(d.ServerIdentifier()); d.MessageType() == dhcpv4.MessageTypeRequest && s.IsValid() && len(w.chosen) < maxMissing {
			w.chosen[s] = true
		}
		return
	}
	o := offerOf(d, f.from.Addr())
	if len(w.offers) < maxOpen {
		w.offers[offered{o.server, o.ip.IsValid(), o.file}] = true
	}
	m.hears(at, f, d, o)
}

// asks is a message of the machine itself.
func (m *machine) asks(at time.Time, f frame, d *dhcpv4.DHCPv4) {
	if c := d.ClassIdentifier(); c != "" {
		m.class = c
	}
	if a := d.ClientArch(); len(a) > 0 {
		m.arch = int(a[0])
	} else if n := 0; m.arch < 0 { // not all firmware sends option 93
		if _, err := fmt.Sscanf(m.class, "PXEClient:Arch:%05d", &n); err == nil && n >= 0 && n < 1<<16 {
			m.arch = n
		}
	}
	if u := string(d.Options.Get(dhcpv4.OptionUserClassInformation)); u != "" {
		m.userClass = u
	}
	switch d.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		m.discovers++
		m.step(at, "asks for an address%s", m.kind())
	case dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
		if f.to.Port() == 4011 {
			m.step(at, "asks %v again for its boot file (port 4011)", f.to.Addr())
			return
		}
		m.requests++
		m.took = at
		m.step(at, "takes the address %v of server %v", or4(v4(d.RequestedIPAddress()), v4(d.ClientIPAddr)), v4(d.ServerIdentifier()))
	case dhcpv4.MessageTypeDecline:
		m.step(at, "says that the address %v is used by another machine", v4(d.RequestedIPAddress()))
	case dhcpv4.MessageTypeRelease:
		m.step(at, "gives its address %v back", v4(d.ClientIPAddr))
	}
}

// kind is how a machine describes itself.
func (m *machine) kind() string {
	switch {
	case m.userClass != "" && strings.Contains(m.userClass, "iPXE"):
		return fmt.Sprintf(" and a boot file (iPXE, %s)", m.archText())
	case m.boots():
		return fmt.Sprintf(" and a boot file (%s, %s)", m.class, m.archText())
	case m.class != "":
		return fmt.Sprintf(" (%s)", m.class)
	}
	return ""
}

// boots tells whether it is firmware.
func (m *machine) boots() bool {
	return strings.HasPrefix(m.class, "PXEClient") || strings.HasPrefix(m.class, "HTTPClient")
}

func (m *machine) archText() string {
	if m.arch < 0 {
		return "no architecture told"
	}
	return archName(archOf(m.arch))
}

func or4(a, b netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return b
}

// hears is a server's message to the machine.
func (m *machine) hears(at time.Time, f frame, d *dhcpv4.DHCPv4, o offer) {
	what := ""
	if o.ip.IsValid() {
		what = fmt.Sprintf(" the address %v", o.ip)
	}
	if o.boots() {
		if what != "" {
			what += " and"
		}
		what += fmt.Sprintf(" the boot file %s from %v", o.file, or4(o.next, o.server))
	}
	switch d.MessageType() {
	case dhcpv4.MessageTypeOffer:
		if o.ip.IsValid() {
			m.offer = at
		}
		if o.boots() {
			m.bootOffer = at
		}
		m.step(at, "is offered%s by %v", or(what, " nothing"), o.server)
	case dhcpv4.MessageTypeAck:
		if f.from.Port() == 67 {
			m.took = at
		}
		if o.boots() {
			m.bootOffer = at
		}
		m.step(at, "gets%s from %v", or(what, " an answer"), o.server)
	case dhcpv4.MessageTypeNak:
		m.naks++
		m.step(at, "is refused its address by %v", o.server)
	}
}

// ask69 is a TFTP read request.
func (w *watch) ask69(at time.Time, f frame) {
	if len(f.payload) < 4 || f.payload[0] != 0 || f.payload[1] != tftpRRQ {
		return
	}
	m := w.machine(f.src)
	if m == nil || len(w.tftp) >= maxOpen {
		return
	}
	name := text(f.payload[2:])
	if r := w.tftp[f.from]; r != nil && r.name == name {
		m.step(at, "asks again for %s (TFTP)", name)
		return
	}
	w.tftp[f.from] = &request{m: m, name: name}
	m.fetch(at)
	m.step(at, "asks %v for %s (TFTP)", f.to.Addr(), name)
}

func (m *machine) fetch(at time.Time) {
	m.fetches++
	m.fetched = at
}

// answer69 is the server's first answer, or its error.
func (w *watch) answer69(at time.Time, f frame, r *request) {
	if f.payload[0] != 0 {
		return
	}
	switch f.payload[1] {
	case tftpError:
		r.m.step(at, "doesn't get %s: TFTP error %d, %s", r.name, f.payload[3], text(f.payload[4:]))
		if f.payload[3] == 1 || f.payload[3] == 0 || f.payload[3] == 2 { // RFC 1350: not found, other, access violation
			r.m.lacks(r.name)
		}
		delete(w.tftp, f.to)
	case tftpOACK, tftpData:
		if !r.begun {
			r.begun = true
			r.m.gets(r.name)
			r.m.step(at, "is sent %s", r.name)
		}
	}
}

// lacks notes a file that isn't there.
func (m *machine) lacks(name string) {
	if len(m.missing) < maxMissing {
		m.missing = append(m.missing, name)
	}
}

// gets notes a file that is on its way.
func (m *machine) gets(name string) {
	if lookUp(name) {
		m.config = true
	}
}

// tcp is a request line of a machine, or the first line of an answer.
func (w *watch) tcp(at time.Time, f frame) {
	if r := w.http[f.from]; r == nil && (hasPrefix(f.payload, "GET ") || hasPrefix(f.payload, "HEAD ")) {
		w.askHTTP(at, f)
	} else if r != nil && (hasPrefix(f.payload, "GET ") || hasPrefix(f.payload, "HEAD ")) {
		delete(w.http, f.from) // the next on the same connection
		w.askHTTP(at, f)
	} else if r := w.http[f.to]; r != nil && hasPrefix(f.payload, "HTTP/1.") {
		delete(w.http, f.to)
		r.m.answerHTTP(at, r.name, f.payload)
	}
}

func (w *watch) askHTTP(at time.Time, f frame) {
	m := w.machine(f.src)
	if m == nil || len(w.http) >= maxOpen {
		return
	}
	line, _, _ := strings.Cut(string(f.payload[:min(len(f.payload), 512)]), "\r\n")
	words := strings.Fields(line)
	if len(words) < 2 {
		return
	}
	w.http[f.from] = &request{m: m, name: words[1]}
	m.fetch(at)
	m.step(at, "asks %v for %s (HTTP %s)", f.to.Addr(), words[1], words[0])
}

func (m *machine) answerHTTP(at time.Time, name string, payload []byte) {
	line, _, _ := strings.Cut(string(payload[:min(len(payload), 128)]), "\r\n")
	words := strings.Fields(line)
	if len(words) < 2 {
		return
	}
	switch {
	case words[1] == "404":
		m.lacks(strings.TrimPrefix(name, "/"))
		m.step(at, "doesn't get %s: HTTP 404, not found", name)
	case strings.HasPrefix(words[1], "2"):
		m.gets(name)
		m.step(at, "is sent %s", name)
	default:
		m.step(at, "doesn't get %s: HTTP %s", name, strings.Join(words[1:], " "))
	}
}

// icmp looks for frames that were too large, and for what a firewall rejects.
func (w *watch) icmp(f frame) {
	inner, ok := f.about()
	if !ok || len(w.tooBig) >= maxMissing || len(w.rejected) >= maxMissing {
		return
	}
	switch f.icmp[1] { // RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1
	case 4:
		w.tooBig[f.from] = true
	case 3, 9, 10, 13:
		if f.from.Addr() == inner.to.Addr() { // the one that was asked says so itself
			w.rejected[rejection{inner.proto, inner.to.Port()}] = true
		}
	}
}

// lookUp tells a boot loader's search for its configuration: most of the
// names it tries are never there.
func lookUp(name string) bool {
	name = strings.ReplaceAll(name, `\`, "/")
	return strings.Contains(name, "pxelinux.cfg/") || strings.Contains(name, "grub.cfg") || strings.HasSuffix(name, "autoexec.ipxe")
}

func hasPrefix(b []byte, s string) bool { return len(b) >= len(s) && string(b[:len(s)]) == s }

// text reads up to the NUL.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b[:min(len(b), 255)]), "\x00")
	return clean(s)
}
