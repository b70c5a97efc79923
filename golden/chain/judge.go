package chain

import (
	"errors"
	"fmt"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// What a node may do before it is cut out.
const (
	maxStrikes  = 2                       // lost hops to it, while it says that it lives
	maxBad      = 3                       // wrong pieces from it
	maxIdleLaps = 3                       // laps that left it missing as much as before
	stallFresh  = 2500 * time.Millisecond // a report of a stall is repeated every second
)

// Report takes in what a node says. Node 0 is the head itself.
func (h *Head) Report(id uint32, r wire.LinkReport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Transfer != h.Transfer || h.over {
		return
	}
	defer h.cond.Broadcast()
	m := h.members[id]
	if id != 0 && (m == nil || m.cause != nil) {
		return
	}
	if r.Lost != nil {
		h.lost(id, *r.Lost)
	}
	if id == 0 {
		if r.Hop != nil {
			h.paceReport(id, *r.Hop)
		}
		return
	}
	if r.Bad != nil {
		h.bad(m, *r.Bad)
	}
	h.progress(m, r)
	h.holdsReport(m, r)
	if r.Hop != nil {
		h.paceReport(id, *r.Hop)
	}
	if r.Broken != "" {
		m.broken = r.Broken
	}
	if r.Complete {
		h.completed(m, r)
	}
	if r.Lap > m.lap {
		h.lapReport(m, r)
	}
}

func (h *Head) progress(m *member, r wire.LinkReport) {
	if r.Settled > m.settled || r.Held > m.held {
		m.settled, m.held, m.moved = max(m.settled, r.Settled), max(m.held, r.Held), time.Now()
	}
	m.stored = max(m.stored, r.Stored)
}

func (h *Head) lapReport(m *member, r wire.LinkReport) {
	m.lap = min(r.Lap, h.lap)
	was := count(m.missing)
	m.missing = valid(r.Missing, h.streams)
	if n := count(m.missing); was == 0 || n < was || n == 0 {
		m.idle = 0
		return
	}
	if m.idle++; m.idle >= maxIdleLaps {
		h.cut(m.ID, fmt.Errorf("still misses %d pieces after %d laps that brought it none", count(m.missing), m.idle))
	}
}

// ErrNotComplete is why a node is cut out that says it has everything, wrongly.
var ErrNotComplete = errors.New("not complete")

func (h *Head) completed(m *member, r wire.LinkReport) {
	n := r.Streams
	if h.open || n < h.closedAt {
		h.cut(m.ID, fmt.Errorf("%w: it says so before all was sent", ErrNotComplete))
		return
	}
	want, sent := h.ledger.root(n)
	switch {
	case !sent:
		h.cut(m.ID, fmt.Errorf("%w: it says so before all was sent", ErrNotComplete))
	case r.Root == nil || *r.Root != want:
		h.cut(m.ID, fmt.Errorf("%w: the hash over its pieces is not golden's", ErrNotComplete))
	default:
		m.complete, m.missing, m.awaited = true, nil, false
	}
}

// holdsReport takes in what a node held before.
func (h *Head) holdsReport(m *member, r wire.LinkReport) {
	for _, have := range r.Have {
		h.claims.take(&m.holdings, h.streams, have)
		m.moved = time.Now()
	}
	if r.HaveAll {
		m.awaited = false
	}
}

// lost: the hop from id to t.Peer does not work. A peer that lives gets the
// hop renewed a few times; a stall is judged with the other stalls.
func (h *Head) lost(id uint32, t wire.Trouble) {
	peer := h.members[t.Peer]
	if peer == nil || peer.cause != nil || h.hops[[2]uint32{id, t.Peer}] != t.Epoch {
		return // of a hop that is no more
	}
	if t.Stall {
		if time.Since(peer.stalled) > stallFresh {
			peer.stallBegan = time.Now()
		}
		peer.stalled = time.Now()
		return
	}
	if time.Since(peer.struck) > h.Patience {
		peer.strikes = 0 // of long ago
	}
	peer.struck = time.Now()
	if peer.strikes++; peer.strikes >= maxStrikes {
		h.unreachable(id, t)
		return
	}
	delete(h.hops, [2]uint32{id, t.Peer})
	h.relink()
}

// unreachable cuts out who can't be reached, or, when the same node has said
// that of another one before, who can reach nobody.
func (h *Head) unreachable(id uint32, t wire.Trouble) {
	from := h.members[id]
	if from == nil || from.cause != nil || from.lostPeer == 0 || from.lostPeer == t.Peer {
		if from != nil {
			from.lostPeer = t.Peer
		}
		h.cut(t.Peer, fmt.Errorf("cannot be reached: %s", t.Why))
		return
	}
	h.members[t.Peer].strikes = 0
	h.cut(id, fmt.Errorf("can reach neither node %d nor node %d: %s", from.lostPeer, t.Peer, t.Why))
}

// bad: m got a wrong piece from the node before it. Which end of a hop turns
// bytes can't be seen from one hop: first the node before is held to be the
// one, and who says the same of a second node is the one itself.
func (h *Head) bad(m *member, t wire.Trouble) {
	h.Log.Warn("wrong piece", "node", m.ID, "from", t.Peer, "why", t.Why)
	g := h.members[t.Peer]
	if t.Peer == 0 || h.accused[m.ID] == m.ID {
		g = m // golden cannot be cut out; or it has been m before
	}
	if g == nil || g.cause != nil {
		return
	}
	if g.bad++; g.bad < maxBad {
		return
	}
	n := g.bad
	if before, again := h.accused[m.ID]; g != m && again && before != t.Peer {
		g.bad, g = 0, m
	}
	h.accused[m.ID] = t.Peer
	if g == m {
		h.accused[m.ID] = m.ID
	}
	h.cut(g.ID, fmt.Errorf("%d wrong pieces came over the hop from node %d to node %d, the last: %s", n, t.Peer, m.ID, t.Why))
}

// cutStalled finds who holds up the chain. When a node hangs, the one before
// it can't send, nor soon can all before that one: so the guilty one is the
// node, nearest to the tail, to which nothing can be sent.
func (h *Head) cutStalled() {
	for i := len(h.order) - 1; i >= 0; i-- {
		m := h.members[h.order[i]]
		if time.Since(m.stalled) < stallFresh && time.Since(m.stallBegan) > h.Quiet/2 {
			h.cut(m.ID, errors.New("takes nothing any more"))
			return
		}
	}
}

// cutIdle finds nodes that were sent pieces and have settled none for long. A
// node that looks through what it holds, and gets nowhere with that, is waited
// for no longer.
func (h *Head) cutIdle() {
	for _, m := range h.live() {
		if m.complete || time.Since(m.moved) < h.Patience {
			continue
		}
		if m.awaited {
			h.Log.Warn("node does not say what it holds; it is sent everything", "node", m.ID)
			m.awaited, m.moved = false, time.Now()
			h.cond.Broadcast()
			continue
		}
		if m.waits(h.lap) || m.settled >= h.seq && !h.ending {
			continue
		}
		h.cut(m.ID, fmt.Errorf("got nowhere for %s", h.Patience))
		return
	}
}
