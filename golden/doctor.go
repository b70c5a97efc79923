package golden

import (
	"context"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/kamethod/kamethod/golden/internal/doctor"
)

// DoctorConfig says what Doctor looks at: what golden-serve is, or will be,
// started with.
type DoctorConfig struct {
	Interface         string
	DHCP              string // as Boot.DHCP
	Images, TFTPRoot  string
	HTTPPort, Control int
	Watch             time.Duration    // how long to listen
	Node              net.HardwareAddr // the machine whose story is told; nil: none
	PCI               []string         // network cards of nodes, "8086:1533"

	// State says what a running golden-serve knows of a machine; nil: there
	// is none to ask.
	State func(ctx context.Context, mac net.HardwareAddr) string
	Log   *slog.Logger
}

// Doctor finds out why machines don't boot from the network and writes it to
// w, for people or as JSON. wrong: something is to be done.
func Doctor(ctx context.Context, c DoctorConfig, w io.Writer, asJSON bool) (wrong bool, err error) {
	r := doctor.Run(ctx, doctor.Config{
		Interface: c.Interface, DHCP: c.DHCP, Images: c.Images, TFTPRoot: c.TFTPRoot, HTTPPort: c.HTTPPort, Control: c.Control,
		Watch: c.Watch, Node: c.Node, PCI: c.PCI, State: c.State, Log: c.Log,
	})
	if asJSON {
		return r.Wrong(), r.JSON(w)
	}
	return r.Wrong(), r.Text(w)
}
