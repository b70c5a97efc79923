package wire

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// setting puts the value of a word into p, or says why it can't. given tells
// "word=" from "word".
type setting func(p *Params, value string, given bool) (why string)

const (
	maxName  = 64  // session names and tokens' parts; ours
	maxHost  = 253 // RFC 1035, 2.3.4
	maxIface = 15  // IFNAMSIZ - 1, linux/if.h
	maxToken = 256 // bytes of a join token; the whole command line has 2048 on x86
	maxPath  = 1024
	maxNode  = 1 << 20
)

// settingOf is the meaning of a word that stands alone on the command line,
// nil when it isn't ours.
func settingOf(name string) setting {
	switch name {
	case KaMethod:
		return replicationOf(func(p *Params) *bool { return &p.KaMethod })
	case DollyMethod:
		return replicationOf(func(p *Params) *bool { return &p.DollyMethod })
	case DollyCMethod:
		return replicationOf(func(p *Params) *bool { return &p.DollyCMethod })
	case "rescue":
		return flagOf(func(p *Params) *bool { return &p.Rescue })
	case "ka.unsigned":
		return flagOf(func(p *Params) *bool { return &p.KaUnsigned })
	case "ka.shell":
		return flagOf(func(p *Params) *bool { return &p.KaShell })
	case "kaopt":
		return nameOf(func(p *Params) *string { return &p.Session })
	case "ka.run":
		return oneOf(func(p *Params) *string { return &p.KaRun }, RunRAM)
	case "ka.swap":
		return oneOf(func(p *Params) *string { return &p.KaSwap }, SwapLocal)
	case "ka.break":
		return setBreak
	case "ka.server":
		return setKaServer
	case "ka.token":
		return setToken
	case "node_id":
		return setNodeID
	case "BOOTIF":
		return setBootIF
	case "console":
		return addConsole
	}
	return nil
}

// itemOf is the meaning of an item inside automatic=, nil when unknown.
func itemOf(key string) setting {
	switch key {
	case "method":
		return setMethod
	case "interface":
		return setInterface
	case "network":
		return setNetwork
	case "server":
		return setServer
	case "directory":
		return setDirectory
	case "dolly_timeout":
		return setDollyTimeout
	}
	return nil
}

// flagOf is a word that is set by being there, or by =1, and unset by =0.
func flagOf(field func(*Params) *bool) setting {
	return func(p *Params, value string, given bool) string {
		if given && value != "0" && value != "1" {
			return "takes no value but 0 or 1"
		}
		*field(p) = value != "0"
		return ""
	}
}

// replicationOf is a word for how the machine is replicated: there is one way
// only, the last on the line.
func replicationOf(field func(*Params) *bool) setting {
	return func(p *Params, value string, given bool) string {
		why := flagOf(field)(p, value, given)
		if why == "" && *field(p) {
			p.KaMethod, p.DollyMethod, p.DollyCMethod = false, false, false
			*field(p) = true
		}
		return why
	}
}

// oneOf takes the only value that a word can have today.
func oneOf(field func(*Params) *string, only string) setting {
	return func(p *Params, value string, _ bool) string {
		if value != only {
			return "takes no value but " + only
		}
		*field(p) = value
		return ""
	}
}

func nameOf(field func(*Params) *string) setting {
	return func(p *Params, value string, _ bool) string {
		if why := checkChars(value, maxName, "._-"); why != "" {
			return why
		}
		*field(p) = value
		return ""
	}
}

// setBreak takes the name of a stage of either init.
func setBreak(p *Params, value string, _ bool) string {
	switch value {
	case "drivers", "network", "fetch", "mount", "switch", "handover", "clone":
		p.KaBreak = value
		return ""
	}
	return "is none of the stages drivers, network, fetch, mount, switch, handover, clone"
}

func setMethod(p *Params, value string, _ bool) string {
	switch value {
	case "ka", "dolly", "nfs", "http", "ftp":
		p.Method = value
		return ""
	}
	return "is none of the methods ka, dolly, nfs, http, ftp"
}

func setInterface(p *Params, value string, _ bool) string {
	if why := checkChars(value, maxIface, "._-"); why != "" {
		return why
	}
	if value == "." || value == ".." { // dev_valid_name, net/core/dev.c
		return "is no interface name"
	}
	p.Interface = value
	return ""
}

func setNetwork(p *Params, value string, _ bool) string {
	if value != "dhcp" {
		return "only dhcp is known"
	}
	p.Network = value
	return ""
}

func setServer(p *Params, value string, _ bool) string {
	if why := checkServer(value); why != "" {
		return why
	}
	p.Server = value
	return ""
}

func setDirectory(p *Params, value string, _ bool) string {
	if !strings.HasPrefix(value, "/") || len(value) > maxPath || strings.ContainsFunc(value, isControl) {
		return "is no absolute path"
	}
	p.Directory = value
	return ""
}

func setDollyTimeout(p *Params, value string, _ bool) string {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n < 1 || n > 86400 {
		return "is no number of seconds from 1 to 86400"
	}
	p.DollyTimeout = time.Duration(n) * time.Second
	return ""
}

func setNodeID(p *Params, value string, _ bool) string {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n < 1 || n > maxNode {
		return "is no number from 1 to " + strconv.Itoa(maxNode)
	}
	p.NodeID = int(n)
	return ""
}

func setToken(p *Params, value string, _ bool) string {
	if why := checkChars(value, maxToken, "._-+/=:"); why != "" {
		return why
	}
	p.KaToken = value
	return ""
}

func setKaServer(p *Params, value string, _ bool) string {
	if why := checkServer(value); why != "" {
		return why
	}
	p.KaServer = value
	return ""
}

// checkServer takes HOST, HOST:PORT, an IPv6 address, or [IPv6]:PORT.
func checkServer(value string) string {
	if _, err := netip.ParseAddr(value); err == nil {
		return ""
	}
	host := value
	if strings.Contains(value, ":") {
		h, port, err := net.SplitHostPort(value)
		if err != nil {
			return "is neither HOST nor HOST:PORT"
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "has no port from 1 to 65535"
		}
		host = h
	}
	return checkHost(host)
}

// setBootIF takes what PXELINUX's SYSAPPEND 2 adds: the ARP hardware type
// and the address, with dashes. GRUB users write the address alone or with
// colons. Only Ethernet (type 1, RFC 826) boots this way.
func setBootIF(p *Params, value string, _ bool) string {
	s := strings.ReplaceAll(value, "-", ":")
	if len(s) == len("01:52:54:00:00:00:01") {
		kind, rest, _ := strings.Cut(s, ":")
		if kind != "01" {
			return "is of a hardware type other than Ethernet (01)"
		}
		s = rest
	}
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 { // the group bit: no interface has such an address
		return "is no MAC address after 01-"
	}
	p.BootIF = mac
	return ""
}

// addConsole keeps the device of console=ttyS0,115200n8.
func addConsole(p *Params, value string, _ bool) string {
	dev, _, _ := strings.Cut(value, ",")
	if dev == "" || strings.ContainsAny(dev, "/.") || strings.ContainsFunc(dev, isControl) {
		return "" // console=null and console= are the kernel's business
	}
	p.Consoles = append(p.Consoles, dev)
	return ""
}

func checkHost(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return ""
	}
	if why := checkChars(s, maxHost, ".-_"); why != "" {
		return why
	}
	if strings.Trim(s, ".-") == "" {
		return "is no host name"
	}
	return ""
}

// checkChars allows ASCII letters, digits and extra.
func checkChars(s string, limit int, extra string) string {
	if s == "" {
		return "has no value"
	}
	if len(s) > limit {
		return "is longer than " + strconv.Itoa(limit) + " characters"
	}
	for _, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune(extra, c) {
			return "has the character " + strconv.QuoteRune(c) + " in it"
		}
	}
	return ""
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// quoteWord makes a word fit for a console whatever it holds, and hides the
// token.
func quoteWord(w string) string {
	if strings.HasPrefix(w, "ka.token=") {
		w = "ka.token=..."
	}
	if len(w) > maxHost {
		w = w[:maxHost] + "..."
	}
	return strconv.QuoteToASCII(w)
}
