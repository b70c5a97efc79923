package netboot

import (
	"net"
	"sync"
)

// seenGeneration bounds the memory that a flood of invented MACs can take:
// at most two generations of this many clients are kept, of those that were
// answered and of the others each. So the ones don't drive out the others.
const seenGeneration = 4096

// seenTable remembers what a machine said of itself by DHCP, for the
// requests that follow by TFTP and HTTP.
type seenTable struct {
	mu               sync.Mutex
	answered, others generations
}

type generations struct{ cur, old map[[6]byte]Client }

func newSeenTable() *seenTable { return &seenTable{} }

func (t *seenTable) put(c Client, answered bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if answered {
		t.answered.put([6]byte(c.MAC), c)
	} else {
		t.others.put([6]byte(c.MAC), c)
	}
}

// get returns a client known by its MAC, or one that has nothing but its MAC.
func (t *seenTable) get(mac net.HardwareAddr) Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := [6]byte(mac)
	for _, g := range []*generations{&t.answered, &t.others} {
		if c, ok := g.get(k); ok {
			return c
		}
	}
	return Client{MAC: mac}
}

// offered says whether a machine asked as firmware does and was answered with
// a boot file.
func (t *seenTable) offered(mac net.HardwareAddr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.answered.get([6]byte(mac))
	return ok
}

func (g *generations) put(k [6]byte, c Client) {
	if len(g.cur) >= seenGeneration {
		g.old, g.cur = g.cur, nil
	}
	if g.cur == nil {
		g.cur = map[[6]byte]Client{}
	}
	g.cur[k] = c
}

func (g *generations) get(k [6]byte) (Client, bool) {
	c, ok := g.cur[k]
	if !ok {
		if c, ok = g.old[k]; ok {
			g.put(k, c)
		}
	}
	return c, ok
}
