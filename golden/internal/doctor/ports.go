package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/wire"
)

// service is a port that golden-serve has open.
type service struct {
	proto string
	port  int
	what  string
	raw   bool // taken by a packet socket: no port is bound
}

func (s service) String() string { return fmt.Sprintf("%s port %d", s.proto, s.port) }

// services are the ports that this way of serving needs.
func (e *exam) services() []service {
	out := []service{
		{"udp", 69, "TFTP", false},
		{"tcp", e.HTTPPort, "boot files over HTTP", false},
		{"tcp", wire.DataPort, "the data of a clone", false},
		{"tcp", e.Control, "stage 1's registration", false},
		{"udp", e.Control, "stage 1's search for the golden node", false},
	}
	switch e.DHCP {
	case netboot.DHCPFull:
		out = append([]service{{"udp", 67, "DHCP", false}}, out...)
	case netboot.DHCPProxy:
		out = append([]service{{"udp", 67, "DHCP", true}, {"udp", 4011, "PXE firmware that asks again", false}}, out...)
	}
	return out
}

// ports looks who holds the ports, and whether a firewall keeps nodes away.
func (e *exam) ports(ctx context.Context) []Finding {
	out := e.holders()
	rules, err := listRules(ctx)
	if err != nil {
		e.Log.Debug("no nftables rules", "err", err)
		if !errors.Is(err, exec.ErrNotFound) {
			out = append(out, Finding{"port.rules", Note, "nftables", err.Error(), ""})
		}
		return out
	}
	e.rules = rules
	return append(out, e.firewall()...)
}

// holders looks for other programs on our ports.
func (e *exam) holders() []Finding {
	var out []Finding
	if !e.self.IsValid() {
		return nil
	}
	for _, s := range e.services() {
		if s.raw {
			continue
		}
		free, err := e.free(s)
		if err != nil {
			out = append(out, Finding{"port.busy", Error, s.String(), err.Error(), ""})
			continue
		}
		if free {
			continue
		}
		who := netboot.PortHolder(s.proto, s.port)
		switch {
		case strings.Contains(who, programName):
			if s.port == 69 {
				e.runs = true
			}
		case s.port == 69 && e.DHCP == netboot.DHCPOff:
			out = append(out, Finding{"port.foreign", Note, s.String(), fmt.Sprintf("%s is served by %s; golden-serve leaves the boot files to it", s.what, or(who, "another program")),
				"let it serve " + e.TFTPRoot})
		default:
			out = append(out, Finding{"port.busy", Error, s.String(), fmt.Sprintf("is in use by %s: golden-serve can't have it for %s", or(who, "a program that can't be seen from here"), s.what), adviceFor(s)})
		}
	}
	return out
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func adviceFor(s service) string {
	switch s.port {
	case 67:
		return "stop that program, or let it give the addresses and use --dhcp proxy"
	case 4011:
		return "stop that program, or let it boot the machines and use --dhcp off"
	case 69:
		return "stop that program (systemctl stop tftpd-hpa, in.tftpd, dnsmasq …)"
	}
	return "stop that program"
}

// free tries to have a port for a moment.
func (e *exam) free(s service) (bool, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), e.ifi.Name) })
		return errors.Join(cerr, err)
	}}
	at := netip.AddrPortFrom(e.self.Addr(), uint16(s.port))
	if s.port == 67 {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), 67)
	}
	var c interface{ Close() error }
	var err error
	if s.proto == "udp" {
		c, err = lc.ListenPacket(context.Background(), "udp4", at.String())
	} else {
		c, err = lc.Listen(context.Background(), "tcp4", at.String())
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("can't be opened: %w", err)
	}
	return true, c.Close()
}

// ruleTime is how long nft may take.
const ruleTime = 15 * time.Second

// listRules reads the rules of the firewall.
func listRules(ctx context.Context) (ruleset, error) {
	ctx, cancel := context.WithTimeout(ctx, ruleTime)
	defer cancel()
	name := "nft"
	if p, err := exec.LookPath("/usr/sbin/nft"); err == nil {
		name = p // where an administrator's PATH may not lead
	}
	cmd := exec.CommandContext(ctx, name, "-j", "list", "ruleset")
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return ruleset{}, fmt.Errorf("nft -j list ruleset: %w %s", err, strings.TrimSpace(stderr.String()))
	}
	return parseRuleset(stdout.Bytes())
}

// firewall judges each port by the rules.
func (e *exam) firewall() []Finding {
	var out []Finding
	bad := false
	for _, s := range e.services() {
		r := e.rules.judge(e.arrival(s))
		if !r.dropped {
			continue
		}
		bad = true
		f := Finding{"port.blocked", Error, s.String(), fmt.Sprintf("%s keeps nodes from %s", r.by, s.what), e.open(s)}
		if !r.sure {
			f.ID, f.Severity = "port.unclear", Note
			f.What = fmt.Sprintf("%s may keep nodes from %s: it has rules that can't be judged without the packet", r.by, s.what)
		}
		out = append(out, f)
	}
	if !bad {
		out = append(out, Finding{"port.ok", OK, e.ifi.Name, "no nftables rule keeps nodes from golden-serve's ports", ""})
	}
	return out
}

func (e *exam) arrival(s service) arrival {
	a := arrival{proto: s.proto, port: s.port, iface: e.ifi.Name, from: e.self.Masked(), to: e.self.Addr(), pkttype: "host", noSocket: s.raw}
	if s.port == 67 {
		a.from = netip.PrefixFrom(netip.IPv4Unspecified(), 32)
		a.to, a.pkttype = netip.AddrFrom4([4]byte{255, 255, 255, 255}), "broadcast"
	}
	return a
}

// open says how to let a port through, in the words of the firewall there is.
func (e *exam) open(s service) string {
	switch {
	case e.rules.has("firewalld", ""):
		return fmt.Sprintf("firewall-cmd --zone=$(firewall-cmd --get-zone-of-interface=%s) --add-port=%d/%s", e.ifi.Name, s.port, s.proto)
	case e.rules.has("", "ufw"):
		return fmt.Sprintf("ufw allow in on %s proto %s to any port %d", e.ifi.Name, s.proto, s.port)
	}
	r := e.rules.judge(e.arrival(s))
	name := strings.Fields(r.by) // "chain NAME of table FAMILY TABLE"
	if len(name) != 6 {
		return "let it through in your firewall"
	}
	return fmt.Sprintf("nft insert rule %s %s %s iifname %s %s dport %d accept", name[4], name[5], name[1], e.ifi.Name, s.proto, s.port)
}
