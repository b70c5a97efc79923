package golden

import (
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// maxAgain is how often a machine that crashed in the middle may boot the
// image again in a session.
const maxAgain = 3

// arms decides which machines boot the image: those named, or else the first
// so many that ask. A machine that is done, or has failed, boots its own disk;
// one that was lost on the way may try again a few times. Its place is never
// given to another: that one's disk is not what the administrator meant.
type arms struct {
	max   int
	named bool
	log   *slog.Logger

	mu    sync.Mutex
	armed map[string]bool
	off   map[string]status.State // done or failed: the disk is its own affair
	home  map[string]bool         // told to boot its disk since then
	lost  map[string]int          // crashed or fell silent so often
	last  map[string]*Node        // that did so the last time: it counts once
}

func newArms(nodes int, macs []string, log *slog.Logger) (*arms, error) {
	a := &arms{max: nodes, named: len(macs) > 0, log: log, armed: map[string]bool{}, home: map[string]bool{}, off: map[string]status.State{},
		lost: map[string]int{}, last: map[string]*Node{}}
	for _, m := range macs {
		hw, err := net.ParseMAC(m)
		if err != nil {
			return nil, fmt.Errorf("network card address %q: want six pairs of hexadecimal digits: %w", m, err)
		}
		a.armed[hw.String()] = true
	}
	return a, nil
}

// resume takes in what the machines were in an earlier run of golden.
func (a *arms) resume(nodes map[string]bookNode) {
	for _, n := range nodes {
		if n.MAC == "" {
			continue
		}
		if !a.named { // else the list of today counts
			a.armed[n.MAC] = true
		}
		if n.State == status.Done || n.State == status.Released {
			a.off[n.MAC] = n.State
		}
	}
}

// decide answers the boot servers.
func (a *arms) decide(c netboot.Client) netboot.Answer {
	mac := c.MAC.String()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.off[mac] != "" {
		return netboot.LocalBoot
	}
	if a.armed[mac] {
		return netboot.BootImage
	}
	if a.named {
		return netboot.Silent
	}
	if len(a.armed) >= a.max {
		return netboot.LocalBoot
	}
	a.armed[mac] = true
	a.log.Info("machine is armed", "mac", mac, "machines", len(a.armed), "of", a.max)
	return netboot.BootImage
}

// admit checks that a machine that registers is armed. One that didn't boot
// from here (a foreign TFTP server) is armed by its coming, as long as there
// is room and nobody named the machines.
func (a *arms) admit(r wire.Register) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.off[r.MAC] == status.Done && r.Resume != nil && r.Resume.Done != nil:
		return nil // it waits for its release
	case a.off[r.MAC] != "":
		return fmt.Errorf("this machine is %s already in this session", a.off[r.MAC])
	case a.armed[r.MAC]:
		return nil
	case a.named:
		return fmt.Errorf("machine %s is not on the list of machines to clone", r.MAC)
	case len(a.armed) >= a.max:
		return fmt.Errorf("the session is full: %d machines are armed", len(a.armed))
	}
	a.armed[r.MAC] = true
	return nil
}

// seen takes a machine's state into account.
func (a *arms) seen(n *Node, s status.State) {
	if s != status.Done && s != status.Released && s != status.Failed {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s == status.Failed && n.lostHow() != notLost {
		if a.last[n.MAC] != n {
			a.lost[n.MAC]++
			a.last[n.MAC] = n
		}
		if a.lost[n.MAC] <= maxAgain {
			return
		}
	}
	a.off[n.MAC] = s
}

// sent takes note of a boot loader configuration that a machine has got.
func (a *arms) sent(mac net.HardwareAddr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.off[mac.String()] != "" {
		a.home[mac.String()] = true
	}
}

// allHome tells whether all these machines were told to boot their disks.
func (a *arms) allHome(nodes []*Node) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range nodes {
		if !a.home[n.MAC] {
			return false
		}
	}
	return true
}
