// Package vmlab is a small netboot laboratory on one machine: a network
// namespace of its own with a bridge, QEMU machines whose network cards hang
// on it, and programs that run inside it as if they were on a server of that
// network. It knows nothing of cloning, and it never touches an interface
// outside the namespaces that it made itself.
//
//	namespace kalab-PID-N
//	┌──────────────────────────────────────────────┐
//	│ golden-serve ── br0 10.77.0.1/24, fd77::1/64  │
//	│                  ├── tap1 ── QEMU node1 ── disk image, serial console
//	│                  └── tap2 ── QEMU node2 ── disk image, serial console
//	└──────────────────────────────────────────────┘
//
// Everything that a lab starts is killed by its own process id when the lab
// is closed, and by the kernel (Pdeathsig) when the program dies without
// closing it. Several labs can run at the same time.
package vmlab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
)

// Bridge is the one network interface that programs in the lab serve on.
const Bridge = "br0"

// Addresses of the bridge. IPv4 for all that boots; IPv6 only because QEMU's
// network boot ROM waits for a router that it doesn't need.
var (
	BridgeAddr  = netip.MustParsePrefix("10.77.0.1/24")
	bridgeAddr6 = netip.MustParsePrefix("fd77::1/64")
)

// Config is what a lab needs to know.
type Config struct {
	Dir   string       // logs, consoles and sockets; made if missing
	Log   *slog.Logger // nil: nothing is logged
	Accel string       // QEMU's -accel; empty: "tcg"
	CPU   string       // QEMU's -cpu; empty: one that fits Accel
}

// Lab is one running laboratory.
type Lab struct {
	// config
	Config
	Name string // of the network namespace

	// state
	threads *launcher
	ra      *routerAdvertiser
	sockets string // unix sockets have short paths (108 bytes, unix(7))

	mu       sync.Mutex
	taps     int
	machines []*Machine
	procs    []*Process
	closed   bool
}

// New makes the namespace and its bridge. The caller closes the lab.
func New(ctx context.Context, cfg Config) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("make a network namespace: must be root")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Accel == "" {
		cfg.Accel = "tcg"
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	sockets, err := os.MkdirTemp("", "kalab")
	if err != nil {
		return nil, err
	}
	l := &Lab{Config: cfg, Name: freshName(), threads: newLauncher(), sockets: sockets}
	if err := l.setUp(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) setUp(ctx context.Context) error {
	removeStale(ctx, l.Log)
	if err := makeNetwork(ctx, l.Name); err != nil {
		return err
	}
	ra, err := startRouterAdvertiser(l.Name, Bridge, bridgeAddr6)
	if err != nil {
		return fmt.Errorf("advertise an IPv6 router on %s: %w", Bridge, err)
	}
	l.ra = ra
	return nil
}

// Close kills what runs in the lab and removes the namespace. It can be
// called twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	machines, procs := l.machines, l.procs
	l.mu.Unlock()

	for _, m := range machines {
		m.Kill()
	}
	for _, p := range procs {
		p.Kill()
	}
	if l.ra != nil {
		l.ra.stop()
	}
	l.threads.stop()
	// The context of the caller may be over already; cleaning up is not.
	err := removeNetwork(context.Background(), l.Name)
	return errors.Join(err, os.RemoveAll(l.sockets))
}
