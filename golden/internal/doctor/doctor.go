package doctor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Config says what to look at. It is what golden-serve is, or will be,
// started with.
type Config struct {
	Interface string // empty: the only one with an address
	DHCP      string // netboot.DHCPFull, DHCPProxy or DHCPOff; empty: that of the golden-serve that runs, else DHCPProxy
	Images    string // folder that make image filled
	TFTPRoot  string // empty: tftp in Images
	HTTPPort  int    // zero: 8069
	Control   int    // zero: wire.ControlPort

	Watch time.Duration    // how long to listen to the wire
	Node  net.HardwareAddr // the machine whose story is told; nil: none
	PCI   []string         // network cards of nodes, "8086:1533"

	// State says what the running golden-serve knows of a machine; empty:
	// nothing. nil: nobody to ask.
	State func(ctx context.Context, mac net.HardwareAddr) string

	Log *slog.Logger // nil: nothing is logged
}

// exam is one run of the doctor: the configuration, and what the earlier
// checks found out for the later ones.
type exam struct {
	Config
	ifi   *net.Interface // nil: there is none to serve
	self  netip.Prefix   // our address on it
	own   map[netip.Addr]bool
	root  string // of /sys, /etc and /lib/modules; "/" outside of tests
	rules ruleset
	runs  bool // a golden-serve serves here
}

// programName is how golden-serve calls itself in /proc/PID/comm.
const programName = "golden-serve"

func newExam(c Config) *exam {
	e := &exam{Config: c, root: "/", own: map[netip.Addr]bool{}}
	if e.TFTPRoot == "" {
		e.TFTPRoot = filepath.Join(e.Images, "tftp")
	}
	if e.HTTPPort == 0 {
		e.HTTPPort = 8069 // netboot's default
	}
	if e.Control == 0 {
		e.Control = wire.ControlPort
	}
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	return e
}

// Run makes all checks. It takes Watch, or some seconds where that is less.
// A ctx that ends ends the listening; what was found until then is reported.
func Run(ctx context.Context, c Config) *Report {
	e := newExam(c)
	r := &Report{}
	add := func(f []Finding) { r.Findings = append(r.Findings, f...) }

	add(e.mode(runningMode()))
	add(e.system())
	add(e.network())
	pin, err := trust.ReadPin(filepath.Join(trust.Dir(), trust.PinFile))
	if err != nil {
		e.Log.Debug("no key to compare with", "err", err)
	}
	add(e.files(pin))
	if e.ifi == nil {
		r.sort()
		return r
	}
	r.Interface, r.Address = e.ifi.Name, e.self.String()
	add(e.ports(ctx))

	var wg sync.WaitGroup
	var seen *watch
	var watched, asked []Finding
	if e.Watch > 0 {
		w, err := e.listen()
		if err != nil {
			watched = []Finding{{"wire.deaf", Error, e.ifi.Name, err.Error(), "run the doctor as root"}}
		} else {
			seen = w.watch
			e.Log.Debug("listening", "interface", e.ifi.Name, "others", len(w.other))
			wg.Go(func() { w.run(ctx, e.Watch) })
		}
	}
	if e.self.IsValid() {
		wg.Go(func() { asked = e.ask(ctx) })
	}
	wg.Wait()
	add(asked)
	add(watched)
	if seen != nil {
		add(e.diagnose(seen, time.Now()))
	}
	if e.Node != nil {
		e.tell(ctx, r, seen)
	}
	r.sort()
	return r
}

// runningMode tells by its ports how the golden-serve that runs here does
// DHCP; empty: none runs.
func runningMode() string {
	for _, p := range []struct {
		port int
		mode string
	}{{67, netboot.DHCPFull}, {4011, netboot.DHCPProxy}, {69, netboot.DHCPOff}} {
		if strings.Contains(netboot.PortHolder("udp", p.port), programName) {
			return p.mode
		}
	}
	return ""
}

// mode settles how DHCP is, or is to be, done.
func (e *exam) mode(running string) []Finding {
	if e.DHCP == "" {
		e.DHCP = or(running, netboot.DHCPProxy)
		return nil
	}
	if running == "" || running == e.DHCP {
		return nil
	}
	return []Finding{{"service.mode", Warning, "--dhcp " + e.DHCP, fmt.Sprintf("the golden-serve that runs here does --dhcp %s, so what follows about DHCP is of another case", running),
		"leave --dhcp out, or start golden-serve anew"}}
}

// tell adds the story of one machine.
func (e *exam) tell(ctx context.Context, r *Report, seen *watch) {
	r.Node = e.Node.String()
	if seen != nil {
		if m := seen.machines[[6]byte(e.Node)]; m != nil {
			r.Story = m.steps
		}
	}
	if e.State != nil { // also when ctx has ended the listening
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), slowTime)
		defer cancel()
		r.State = e.State(ctx, e.Node)
	}
}
