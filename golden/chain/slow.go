package chain

import (
	"slices"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// When a hop is slow: it is busy for nearly all of the time, not because the
// node behind it is held up itself, and delivers less than a quarter of what
// the other hops can, for three reports (one a second) in a row.
const (
	slowBusy     = 0.85
	slowReceiver = 0.5
	slowShare    = 4
	slowReports  = 3
	paceFresh    = 3 * time.Second
)

// A link is full that was busy for so much of a second without its receiver
// being the cause. backlog is what waits for the first hop, in bytes, when
// nothing is known of the links yet.
const (
	linkFull = 0.5
	backlog  = 2 << 20
)

// pace is how the hop to a node did, from the node that was before it then.
type pace struct {
	from  uint32
	epoch uint32
	rate  int64 // bytes a second, the latest
	slow  int   // reports in a row in which the hop held the chain up
	full  bool  // the link was full for most of the last second
	at    time.Time
}

// paceReport takes in how fast the hop from a node is.
func (h *Head) paceReport(from uint32, r wire.Hop) {
	m := h.members[r.Peer]
	if m == nil || m.cause != nil || h.before(r.Peer) != from || h.hops[[2]uint32{from, r.Peer}] != r.Epoch || r.Rate <= 0 {
		return
	}
	if m.hop.from != from || m.hop.epoch != r.Epoch {
		m.hop = pace{from: from, epoch: r.Epoch}
	}
	m.hop.rate, m.hop.at = r.Rate, time.Now()
	m.hop.full = r.Busy-r.Receiver >= linkFull
	if r.Busy >= slowBusy && r.Receiver <= slowReceiver {
		m.hop.slow++
	} else {
		m.hop.slow = 0
	}
}

// before is the node that sends to a node, 0 for the head.
func (h *Head) before(id uint32) uint32 {
	if i := slices.Index(h.order, id); i > 0 {
		return h.order[i-1]
	}
	return 0
}

// moveSlow moves a node that is behind a slow hop to the tail, where it holds
// nobody up: what it can't take in time is left out, and comes in another lap.
func (h *Head) moveSlow() {
	for _, id := range h.order {
		m := h.members[id]
		if m.hop.from != h.before(id) { // that hop is not there any more
			continue
		}
		if m.shed || m.complete || !h.missedBesides(id) || m.hop.slow < slowReports || time.Since(m.hop.at) > paceFresh {
			continue
		}
		if usual := h.usualRate(id); m.hop.rate >= usual/slowShare {
			continue
		}
		h.Log.Warn("the way to a node is slow: it goes to the tail, and gets what it can't take in time in later laps",
			"node", id, "MB/s", float64(m.hop.rate)/1e6, "others", float64(h.usualRate(id))/1e6)
		m.shed = true
		h.order = append(slices.DeleteFunc(h.order, func(o uint32) bool { return o == id }), id)
		h.relink()
		return
	}
}

// linkBound tells whether a link is what holds the chain up: then what is
// compressed arrives sooner.
func (h *Head) linkBound() bool {
	h.mu.Lock()
	known, full := false, false
	for _, id := range h.order {
		if m := h.members[id]; time.Since(m.hop.at) < paceFresh {
			known, full = true, full || m.hop.full && !m.shed
		}
	}
	h.mu.Unlock()
	return full || !known && h.outlet.waiting() >= backlog
}

// usualRate is the median of what the other hops deliver.
func (h *Head) usualRate(but uint32) int64 {
	var rates []int64
	for _, id := range h.order {
		if m := h.members[id]; id != but && !m.shed && m.hop.rate > 0 {
			rates = append(rates, m.hop.rate)
		}
	}
	if len(rates) == 0 {
		return 0
	}
	slices.Sort(rates)
	return rates[len(rates)/2]
}

// othersMiss tells whether a node that isn't behind a slow hop misses pieces.
func (h *Head) othersMiss() bool {
	for _, m := range h.live() {
		if !m.shed && !m.complete {
			return true
		}
	}
	return false
}

// missedBesides tells whether another node than this misses pieces.
func (h *Head) missedBesides(id uint32) bool {
	for _, m := range h.live() {
		if m.ID != id && !m.complete {
			return true
		}
	}
	return false
}

// unshed lets slow nodes set the pace when nobody else misses anything: then
// nothing need be left out.
func (h *Head) unshed() {
	if h.lap == 1 || h.othersMiss() {
		return
	}
	changed := false
	for _, m := range h.members {
		changed = changed || m.shed
		m.shed = false
	}
	if changed {
		h.relink()
	}
}
