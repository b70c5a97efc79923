package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/trust"
)

const doctorText = `Finds out why machines don't boot from the network: looks at the interface, the
files, the ports and the firewall, asks each service as a machine would, listens
to what the machines on the wire ask and get, and says in words what is wrong
and what to do. Run it as root, with the flags of the golden-serve that runs or
will run; it changes nothing. docs/netboot.md lists what it can find.

EXIT STATUS
  0    nothing is wrong that it can see
  1    something is wrong
  2    usage
  130  interrupted
`

// doctorWatch is how long it listens: to everything, or to one machine, whose
// firmware needs half a minute before it asks.
const (
	doctorWatch     = 10 * time.Second
	doctorWatchNode = 2 * time.Minute
)

type doctorFlags struct {
	c                     golden.DoctorConfig
	node, output, session string
	verbose               bool
}

// errWrong is found, and said already.
var errWrong = errors.New("something is wrong")

func doctorCommand() *cobra.Command {
	var o doctorFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say why machines don't boot from the network, and what to do",
		Long:  doctorText,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.node != "" && !cmd.Flags().Changed("watch") {
				o.c.Watch = doctorWatchNode
			}
			return o.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.c.Interface, "interface", "", "network interface; default: the only one with an address")
	f.StringVar(&o.c.Images, "images", "images", "folder that make image filled")
	f.StringVar(&o.c.TFTPRoot, "tftp-root", "", "folder with the boot files; default: tftp in --images")
	f.StringVar(&o.c.DHCP, "dhcp", "", "how golden-serve will be started: proxy, full, off; default: as the one that runs, else proxy")
	f.IntVar(&o.c.HTTPPort, "http-port", 0, "port for boot files over HTTP; default 8069")
	f.IntVar(&o.c.Control, "port", 0, "control port; default 30765")
	f.DurationVar(&o.c.Watch, "watch", doctorWatch, "how long to listen to the wire; 0: not at all; with --node 2m")
	f.StringVar(&o.node, "node", "", "tell the story of the machine with this network card address")
	f.StringSliceVar(&o.c.PCI, "pci", nil, "network card of a node, as lspci -nn prints it: 8086:1533; repeated")
	f.StringVarP(&o.session, "session", "s", "kamethod", "name of the session that is asked for the machine's state")
	f.StringVarP(&o.output, "output", "o", "", "json")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say more")
	return c
}

func (o *doctorFlags) run(ctx context.Context) error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q: want json", o.output)
	}
	if !slices.Contains([]string{"", "proxy", "full", "off"}, o.c.DHCP) {
		return fmt.Errorf("--dhcp %q: want proxy, full or off", o.c.DHCP)
	}
	if strings.Contains(o.c.Interface, ",") {
		return fmt.Errorf("--interface %s: the doctor looks at one at a time", o.c.Interface)
	}
	if o.c.Watch < 0 || o.c.Watch > time.Hour {
		return fmt.Errorf("--watch %v: want 0 to 1h", o.c.Watch)
	}
	for _, p := range []int{o.c.HTTPPort, o.c.Control} {
		if p < 0 || p > 65535 {
			return fmt.Errorf("port %d: want 1 to 65535", p)
		}
	}
	for _, id := range o.c.PCI {
		if !regexp.MustCompile(`^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$`).MatchString(id) {
			return fmt.Errorf("--pci %q: want vendor and device in hexadecimal digits, 8086:1533", id)
		}
	}
	if o.node != "" {
		hw, err := net.ParseMAC(o.node)
		if err != nil || len(hw) != 6 {
			return fmt.Errorf("--node %q: want six pairs of hexadecimal digits", o.node)
		}
		o.c.Node = hw
	}
	o.c.Log = newLog(os.Stderr, o.verbose)
	o.c.State = o.state
	wrong, err := golden.Doctor(ctx, o.c, os.Stdout, o.output == "json")
	if err != nil {
		return failed{err}
	}
	if wrong {
		return failed{errWrong}
	}
	return nil
}

// state is what the golden-serve that runs knows of a machine, or what the
// last one has left. It makes no key: without one nobody was armed.
func (o *doctorFlags) state(ctx context.Context, mac net.HardwareAddr) string {
	var n golden.Nodes
	id, err := trust.Load(filepath.Join(trust.Dir(), trust.KeyFile))
	if err == nil {
		a := golden.Admin{Session: o.session, Identity: id}
		if a.Control, err = golden.Control(stateDir(), o.session); err == nil {
			n, err = a.Nodes(ctx)
		}
	}
	if err != nil {
		o.c.Log.Debug("no golden-serve to ask", "err", err)
		if n, err = golden.SavedNodes(stateDir(), o.session); err != nil {
			return ""
		}
	}
	for _, m := range n.Machines {
		if m.MAC != mac.String() {
			continue
		}
		text := fmt.Sprintf("%s since %s", m.State, m.Since.Local().Format(time.TimeOnly))
		if m.Error != "" {
			text += ": " + m.Error
		}
		if n.Source != "running" {
			text += fmt.Sprintf(" (written at %s by a golden-serve that has ended)", n.Written.Local().Format(time.DateTime))
		}
		return text
	}
	return fmt.Sprintf("unknown to session %s", n.Session)
}
