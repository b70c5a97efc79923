package netboot

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/iana"
)

// Answer is what a machine that boots from the network gets to hear.
type Answer int

// The answers that Config.Decide can give.
const (
	Silent    Answer = iota // no boot information at all
	LocalBoot               // the boot loader, told to boot the local disk
	BootImage               // the boot loader, told to load kernel and stage 1
)

func (a Answer) String() string {
	switch a {
	case Silent:
		return "silent"
	case LocalBoot:
		return "local boot"
	case BootImage:
		return "boot image"
	}
	return fmt.Sprintf("answer %d", int(a))
}

// Client is what is known of a machine at the moment of the question. Only
// MAC is always there.
type Client struct {
	MAC       net.HardwareAddr
	UUID      string     // of option 97, as SMBIOS prints it; empty if not sent
	Arch      iana.Arch  // option 93, or out of option 60
	IP        netip.Addr // invalid before the machine has one
	ClassID   string     // option 60
	UserClass string     // option 77
	Loading   bool       // it asks for a boot loader configuration; else it is a DHCP packet, and may yet go elsewhere
}

// Own is what a machine's boot line says of it alone.
type Own struct {
	Label  string   // the entry's name; empty: kamethod
	Boot   []string // how stage 2 comes and what runs then; empty: by kamethod
	NodeID int      // node_id=; 0: not said
}

// The modes of Config.DHCP.
const (
	DHCPFull  = "full"  // the network's DHCP server: leases for everybody
	DHCPProxy = "proxy" // boot information only, beside another server
	DHCPOff   = "off"   // TFTP and HTTP only
)

// Config says what to serve, where and to whom.
type Config struct {
	Interface string       // the one interface that is served
	Addr      netip.Prefix // our address on it; zero: its first IPv4 address
	DHCP      string       // DHCPFull, DHCPProxy or DHCPOff; empty: DHCPProxy

	Subnets []Subnet // further networks, behind relays

	// full mode
	RangeFrom, RangeTo netip.Addr            // pool; zero: upper half of the subnet
	Router             netip.Addr            // option 3; zero: not sent
	DNS                []netip.Addr          // option 6; empty: not sent
	Domain             string                // option 15; empty: not sent
	Fixed              map[string]netip.Addr // MAC to address
	Names              map[string]string     // MAC to host name, option 12
	LeaseFile          string                // empty: leases are forgotten at exit
	LeaseTime          time.Duration         // zero: 12 h
	Force              bool                  // serve although another DHCP server answers

	// Decide is asked at each DHCP packet and each request for a boot
	// loader configuration, by several goroutines. nil: LocalBoot for all.
	Decide func(Client) Answer

	BootFiles map[iana.Arch]string // boot file of an architecture, instead of the table's choice
	Option43  string               // Option43Auto, Option43Always or Option43Never; empty: Option43Auto

	// Own is asked for what a machine's boot line says of it alone. nil: nothing.
	Own func(net.HardwareAddr) Own

	Append  string              // further kernel words for label kamethod
	Words   func(Client) string // the same, where they differ from machine to machine: CheckWords likes them; nil: Append for all
	Console string              // kernel console words, "console=ttyS0,115200"

	Files    Files // all that may be fetched
	HTTPPort int   // zero: 8069; negative: no HTTP

	Log   *slog.Logger // nil: nothing is logged
	Event func(Event)  // may be slow: events are dropped then; nil: no events
}

const (
	defaultHTTPPort  = 8069           // free in IANA's registry; the list of neighbours avoids 8080/8081
	defaultLeaseTime = 12 * time.Hour // longer than any cloning session
	maxKernelWords   = 1400           // x86 command line is 2048 with NUL (kernel, COMMAND_LINE_SIZE); the rest is for label and BOOTIF
)

// withDefaults checks everything that needs no socket.
func (c Config) withDefaults() (Config, error) {
	switch c.DHCP {
	case "":
		c.DHCP = DHCPProxy
	case DHCPFull, DHCPProxy, DHCPOff:
	default:
		return c, fmt.Errorf("dhcp mode %q: want %s, %s or %s", c.DHCP, DHCPFull, DHCPProxy, DHCPOff)
	}
	if c.Interface == "" {
		return c, errors.New("no interface to serve: name one with --interface")
	}
	if c.HTTPPort == 0 {
		c.HTTPPort = defaultHTTPPort
	}
	if c.HTTPPort > 65535 {
		return c, fmt.Errorf("http port %d: largest is 65535", c.HTTPPort)
	}
	if c.LeaseTime == 0 {
		c.LeaseTime = defaultLeaseTime
	}
	if c.LeaseTime < time.Minute {
		return c, fmt.Errorf("lease time %v: at least one minute", c.LeaseTime)
	}
	if err := c.checkLoaders(); err != nil {
		return c, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Decide == nil {
		c.Decide = func(Client) Answer { return LocalBoot }
	}
	if c.Own == nil {
		c.Own = func(net.HardwareAddr) Own { return Own{} }
	}
	for _, w := range []struct{ name, words string }{{"kernel words", c.Append}, {"console words", c.Console}} {
		if err := checkWords(w.name, w.words); err != nil {
			return c, err
		}
	}
	if len(c.Domain) > 253 { // RFC 1035 2.3.4
		return c, fmt.Errorf("domain name of %d characters: at most 253", len(c.Domain))
	}
	if len(c.DNS) > 8 {
		return c, fmt.Errorf("%d DNS servers: at most 8", len(c.DNS))
	}
	return c, nil
}

// CheckWords refuses kernel words that would break out of their line in a boot
// loader configuration.
func CheckWords(words string) error { return checkWords("kernel words", words) }

// checkWords refuses what would break out of its line in a boot loader
// configuration.
func checkWords(name, words string) error {
	if len(words) > maxKernelWords {
		return fmt.Errorf("%s of %d characters: at most %d", name, len(words), maxKernelWords)
	}
	if i := strings.IndexFunc(words, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("%s %q: character %d is not printable ASCII", name, words, i+1)
	}
	for _, w := range strings.Fields(words) {
		if w == "||" || w == "&&" || w[0] == '#' || strings.Contains(w, "${") {
			return fmt.Errorf("%s: %q would mean something to iPXE", name, w)
		}
	}
	return nil
}
