package netboot

import (
	"net"
	"sync"
)

// seenGeneration bounds the memory that a flood of invented MACs can take:
// at most two generations of this many clients are kept.
const seenGeneration = 4096

// seenTable remembers what a machine said of itself by DHCP, for the
// requests that follow by TFTP and HTTP.
type seenTable struct {
	mu       sync.Mutex
	cur, old map[[6]byte]Client
}

func newSeenTable() *seenTable { return &seenTable{cur: map[[6]byte]Client{}} }

func (t *seenTable) put(c Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.putLocked([6]byte(c.MAC), c)
}

func (t *seenTable) putLocked(k [6]byte, c Client) {
	if len(t.cur) >= seenGeneration {
		t.old, t.cur = t.cur, map[[6]byte]Client{}
	}
	t.cur[k] = c
}

// get returns a client known by its MAC, or one that has nothing but its MAC.
func (t *seenTable) get(mac net.HardwareAddr) Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := [6]byte(mac)
	if c, ok := t.cur[k]; ok {
		return c
	}
	if c, ok := t.old[k]; ok {
		t.putLocked(k, c)
		return c
	}
	return Client{MAC: mac}
}
