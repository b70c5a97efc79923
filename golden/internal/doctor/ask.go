package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// askTime is how long offers are waited for: dnsmasq pings an address for 3 s
// before it offers it.
const askTime = 4 * time.Second

// slowTime is how much longer they are waited for where one is missing.
const slowTime = tries * tryTime

// question is a kind of machine that asks.
type question struct {
	name  string
	class string // option 60; empty: no firmware, a plain DHCP client
	arch  iana.Arch
	xid   dhcpv4.TransactionID
}

// questions are the kinds that are tried (RFC 4578 2.1, UEFI 2.10 24.3).
func questions() []question {
	return []question{
		{name: "a machine that only wants an address"},
		{name: "a BIOS machine", class: "PXEClient:Arch:00000:UNDI:002001", arch: 0},
		{name: "a UEFI x64 machine", class: "PXEClient:Arch:00007:UNDI:003000", arch: 7},
		{name: "a UEFI x64 machine that boots by HTTP", class: "HTTPClient:Arch:00016:UNDI:003000", arch: 16},
	}
}

// offer is what a server answered.
type offer struct {
	server netip.Addr
	local  bool // came out of this machine
	ip     netip.Addr
	file   string
	next   netip.Addr // siaddr
	q      int        // the question
}

// boots tells whether it says where to boot from.
func (o offer) boots() bool { return o.file != "" }

// ask plays a machine: it asks all DHCP servers, and golden-serve's other
// services, if it runs.
func (e *exam) ask(ctx context.Context) []Finding {
	c, err := e.newClient()
	if err != nil {
		return []Finding{{"service.mute", Error, e.ifi.Name, err.Error(), "run the doctor as root"}}
	}
	defer func() {
		if err := c.close(); err != nil {
			e.Log.Debug("close the client", "err", err)
		}
	}()
	e.Log.Debug("asking", "interface", e.ifi.Name)
	offers, err := c.discover(ctx, questions(), func(o []offer) bool { return e.complete(c, o) })
	if err != nil {
		return []Finding{{"service.mute", Error, e.ifi.Name, err.Error(), "look at the interface"}}
	}
	if ctx.Err() != nil {
		return []Finding{e.interrupted()}
	}
	out := e.rivals(offers)
	if !e.runs {
		return append(out, Finding{"service.none", Note, e.ifi.Name, "no golden-serve serves here now, so its answers were not tried", "start golden-serve and run the doctor again beside it"})
	}
	if c.tap == nil {
		return append(out, Finding{"service.indirect", Note, e.ifi.Name, "this kernel has no way to play a machine on the wire, so golden-serve's answers were not tried: " + c.why.Error(), "run the doctor on a kernel of a distribution"})
	}
	return append(out, e.everyService(ctx, c, offers)...)
}

// interrupted says that there is nothing to be said of what wasn't tried.
func (e *exam) interrupted() Finding {
	return Finding{"service.untried", Note, e.ifi.Name, "the doctor was ended before it had asked all services", "let it go on"}
}

// complete tells whether all that should answer have: golden-serve, and where
// it gives no addresses somebody who does.
func (e *exam) complete(c *client, offers []offer) bool {
	if e.DHCP != netboot.DHCPFull && !slices.ContainsFunc(offers, func(o offer) bool { return o.ip.IsValid() }) {
		return false
	}
	if !e.runs || c.tap == nil {
		return true
	}
	found, _ := e.answers(offers)
	return !slices.ContainsFunc(found, func(f Finding) bool { return f.Severity == Error })
}

// discover asks once a second, as firmware does, for askTime; for slowTime
// more while the answers aren't complete.
func (c *client) discover(ctx context.Context, qs []question, complete func([]offer) bool) ([]offer, error) {
	var msgs [][]byte
	for i := range qs {
		m, err := qs[i].discovery()
		if err != nil {
			return nil, err
		}
		msgs = append(msgs, m)
	}
	var out []offer
	end := time.Now().Add(askTime)
	for last := end.Add(slowTime); ctx.Err() == nil && time.Now().Before(last); {
		if !time.Now().Before(end) && complete(out) {
			break
		}
		for _, m := range msgs {
			if err := c.broadcast(m); err != nil {
				return out, err
			}
		}
		c.frames(ctx, tryTime, func(f frame) bool {
			if o, ok := c.offer(f, qs); ok && !slices.Contains(out, o) {
				out = append(out, o)
			}
			return false
		})
	}
	return out, nil
}

// discovery makes the DISCOVER of a question.
func (q *question) discovery() ([]byte, error) {
	m, err := dhcpv4.NewDiscovery(netboot.DoctorMAC(), dhcpv4.WithBroadcast(true))
	if err != nil {
		return nil, fmt.Errorf("make DISCOVER: %w", err)
	}
	q.xid = m.TransactionID
	if q.class != "" {
		q.firmware(m)
	}
	return m.ToBytes(), nil
}

// firmware adds what firmware says of itself.
func (q *question) firmware(m *dhcpv4.DHCPv4) {
	m.UpdateOption(dhcpv4.OptClassIdentifier(q.class))
	m.UpdateOption(dhcpv4.OptClientArch(q.arch))
	m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 0})) // UNDI 3.0
	m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, make([]byte, 17)))         // no UUID
	m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionParameterRequestList, []byte{1, 3, 43, 54, 60, 66, 67, 97}))
}

// offer reads an answer to one of the questions.
func (c *client) offer(f frame, qs []question) (offer, bool) {
	if f.proto != unix.IPPROTO_UDP || f.to.Port() != 68 || f.from.Port() != 67 {
		return offer{}, false
	}
	m, err := dhcpv4.FromBytes(f.payload)
	if err != nil || m.MessageType() != dhcpv4.MessageTypeOffer {
		return offer{}, false
	}
	q := slices.IndexFunc(qs, func(q question) bool { return q.xid == m.TransactionID })
	if q < 0 {
		return offer{}, false
	}
	o := offerOf(m, f.from.Addr())
	o.q, o.local = q, f.src == mac(c.ifi.HardwareAddr)
	return o, true
}

// offerOf reads what a server's message gives.
func offerOf(m *dhcpv4.DHCPv4, from netip.Addr) offer {
	o := offer{server: v4(m.ServerIdentifier()), ip: v4(m.YourIPAddr), next: v4(m.ServerIPAddr), file: strings.TrimRight(m.BootFileName, "\x00")}
	if !o.server.IsValid() {
		o.server = from
	}
	if f := strings.TrimRight(m.BootFileNameOption(), "\x00"); o.file == "" && f != "" {
		o.file = f
	}
	return o
}

// v4 is the address; invalid for none and 0.0.0.0.
func v4(ip []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// ours tells whether an offer is golden-serve's. A DHCP server beside it on
// this machine has the same address, and gives leases in proxy mode.
func (e *exam) ours(o offer) bool {
	return e.runs && o.local && (e.DHCP == netboot.DHCPFull || e.DHCP == netboot.DHCPProxy && !o.ip.IsValid())
}
