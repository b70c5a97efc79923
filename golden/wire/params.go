package wire

import (
	"net"
	"strings"
	"time"
)

// Params is what the kernel command line tells a node, in the words of the
// old manuals (automatic=method:ka,interface:eth0,network:dhcp kamethod) and
// in ours, which start with "ka.".
type Params struct {
	Method       string           `json:"method,omitempty"`        // how stage 2 comes: "ka", "dolly", "nfs", "http", "ftp"; empty when not said
	Interface    string           `json:"interface"`               // "eth0", or "auto"
	Network      string           `json:"network"`                 // "dhcp"
	Server       string           `json:"server,omitempty"`        // of nfs, http and ftp; HOST or HOST:PORT
	Directory    string           `json:"directory,omitempty"`     // of nfs, http and ftp
	DollyTimeout time.Duration    `json:"dolly_timeout,omitempty"` // 0 when not said
	KaMethod     bool             `json:"kamethod,omitempty"`
	DollyMethod  bool             `json:"dollymethod,omitempty"`
	DollyCMethod bool             `json:"dolly_c_method,omitempty"`
	Rescue       bool             `json:"rescue,omitempty"`
	Session      string           `json:"session,omitempty"` // kaopt=
	NodeID       int              `json:"node_id,omitempty"` // 0 when not said
	BootIF       net.HardwareAddr `json:"bootif,omitempty"`  // the interface the firmware booted from
	Consoles     []string         `json:"consoles,omitempty"`

	KaServer   string `json:"ka_server,omitempty"`   // HOST or HOST:PORT
	KaToken    string `json:"-"`                     // proves the right to join; not for print
	KaBreak    string `json:"ka_break,omitempty"`    // a shell before the stage of this name
	KaShell    bool   `json:"ka_shell,omitempty"`    // a shell before stage 2 is fetched, and before the disks are touched
	KaUnsigned bool   `json:"ka_unsigned,omitempty"` // a stage 2 may run that was not built with this stage 1
	KaRun      string `json:"ka_run,omitempty"`      // RunRAM: what golden sends is run in memory, and no disk is touched
	KaSwap     string `json:"ka_swap,omitempty"`     // SwapLocal: with KaRun, swap areas on this machine's own disks are used
}

// SwapLocal is ka.swap=local.
const SwapLocal = "local"

// The words at the end of a boot line: how the machine is replicated.
const (
	KaMethod     = "kamethod"
	DollyMethod  = "dollymethod"
	DollyCMethod = "dollyCmethod"
)

// Replication is the one of these words that counts, the last on the line;
// empty for a rescue system.
func (p Params) Replication() string {
	switch {
	case p.KaMethod:
		return KaMethod
	case p.DollyMethod:
		return DollyMethod
	case p.DollyCMethod:
		return DollyCMethod
	}
	return ""
}

// Auto is the interface of a node that may choose for itself.
const Auto = "auto"

// Clones says whether the node is to be cloned. The word "rescue" besides
// one of the methods only says where stage 2 comes from; alone it asks for
// the rescue system.
func (p Params) Clones() bool {
	return p.KaMethod || p.DollyMethod || p.DollyCMethod
}

// ParamError is a word of the command line that can't be taken as it is.
type ParamError struct {
	Word string // as it stands on the command line
	Why  string
}

func (e *ParamError) Error() string {
	return "kernel parameter " + quoteWord(e.Word) + ": " + e.Why
}

// ParseCmdline reads a kernel command line. Words it doesn't know are the
// kernel's or somebody else's and are passed over; of a word given twice the
// last one counts. A malformed word leaves its parameter as it was and is
// named in the errors.
func ParseCmdline(line string) (Params, []error) {
	p := Params{Interface: Auto, Network: "dhcp"}
	var errs []error
	for _, w := range words(line) {
		if w == "--" { // what follows is init's own (Documentation/admin-guide/kernel-parameters.rst)
			break
		}
		for _, e := range p.take(w) {
			errs = append(errs, e)
		}
	}
	return p, errs
}

// take sets what one word says.
func (p *Params) take(word string) []*ParamError {
	name, value, given := strings.Cut(word, "=")
	if name == "automatic" {
		return p.takeAutomatic(word, value)
	}
	set := settingOf(name)
	if set == nil {
		return nil
	}
	if why := set(p, value, given); why != "" {
		return []*ParamError{{Word: word, Why: why}}
	}
	return nil
}

// takeAutomatic reads "method:ka,interface:eth0,network:dhcp".
func (p *Params) takeAutomatic(word, list string) []*ParamError {
	if list == "" {
		return []*ParamError{{Word: word, Why: "has no items"}}
	}
	var errs []*ParamError
	for item := range strings.SplitSeq(list, ",") {
		key, value, ok := strings.Cut(item, ":")
		if !ok {
			errs = append(errs, &ParamError{Word: item, Why: "item of automatic= without a colon"})
			continue
		}
		set := itemOf(key)
		if set == nil {
			continue
		}
		if why := set(p, value, true); why != "" {
			errs = append(errs, &ParamError{Word: item, Why: why})
		}
	}
	return errs
}

// words splits at white space outside double quotes and takes the quotes
// off, as the kernel's own next_arg does (lib/cmdline.c).
func words(line string) []string {
	var (
		out    []string
		word   strings.Builder
		inside bool // a word
		quoted bool
	)
	for _, c := range []byte(line) {
		switch {
		case c == '"':
			quoted = !quoted
			inside = true
		case !quoted && isSpace(c):
			if inside {
				out = append(out, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	if inside {
		out = append(out, word.String())
	}
	return out
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'
}
