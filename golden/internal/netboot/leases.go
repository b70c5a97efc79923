package netboot

import (
	"hash/fnv"
	"net/netip"
	"sync"
	"time"
)

// Leases are kept by MAC, not by client identifier: firmware, stage 1 and
// the installed system send different identifiers and should all get the
// same address.

const (
	offerTime   = 10 * time.Second // how long an offered address waits for its REQUEST
	declineTime = 10 * time.Minute // how long an address that somebody else uses rests
)

// lease is one address given away.
type lease struct {
	mac     [6]byte
	ip      netip.Addr
	until   time.Time
	offered bool // offered only, not yet requested
}

// leaseTable is the state of full mode.
type leaseTable struct {
	plan subnetPlan
	term time.Duration
	file *leaseFile // nil: in memory only

	mu     sync.Mutex
	byMAC  map[[6]byte]*lease
	byIP   map[netip.Addr]*lease
	rested map[netip.Addr]time.Time // declined addresses
}

func newLeaseTable(p subnetPlan, term time.Duration) *leaseTable {
	return &leaseTable{plan: p, term: term,
		byMAC: map[[6]byte]*lease{}, byIP: map[netip.Addr]*lease{}, rested: map[netip.Addr]time.Time{}}
}

// offer finds an address for a machine: its fixed one, the one that it has
// or had, the one it asks for, or a free one. false: the pool is used up.
func (t *leaseTable) offer(mac [6]byte, wanted netip.Addr, now time.Time) (netip.Addr, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ip, ok := t.plan.fixed[mac]; ok {
		return ip, true
	}
	if l := t.byMAC[mac]; l != nil && t.ours(l.ip) && !t.resting(l.ip, now) {
		if l.offered {
			l.until = now.Add(offerTime)
		}
		return l.ip, true
	}
	ip, ok := wanted, t.free(wanted, now)
	if !ok {
		ip, ok = t.search(mac, now)
	}
	if ok {
		t.set(&lease{mac: mac, ip: ip, until: now.Add(offerTime), offered: true})
	}
	return ip, ok
}

// confirm gives a machine the address that it requests, if it may have it.
func (t *leaseTable) confirm(mac [6]byte, ip netip.Addr, now time.Time) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fixed, ok := t.plan.fixed[mac]; ok {
		return fixed == ip, nil
	}
	l := t.byMAC[mac]
	if (l == nil || l.ip != ip) && !t.free(ip, now) {
		return false, nil
	}
	l = &lease{mac: mac, ip: ip, until: now.Add(t.term)}
	t.set(l)
	if t.file == nil {
		return true, nil
	}
	return true, t.file.append(*l)
}

// decline takes an address out of use for a while: its client found that
// somebody else has it (RFC 2131 4.3.3).
func (t *leaseTable) decline(mac [6]byte, ip netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byMAC[mac]; l != nil && l.ip == ip {
		t.drop(l)
		t.rested[ip] = now.Add(declineTime)
	}
}

// release ends a lease early; the machine gets the address again as long as
// nobody else needs it.
func (t *leaseTable) release(mac [6]byte, ip netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byMAC[mac]; l != nil && l.ip == ip {
		l.until = now
	}
}

// forget drops an offer that another server won.
func (t *leaseTable) forget(mac [6]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byMAC[mac]; l != nil && l.offered {
		t.drop(l)
	}
}

// holder says whose address this is.
func (t *leaseTable) holder(ip netip.Addr) ([6]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mac, ok := t.plan.owner[ip]; ok {
		return mac, true
	}
	if l := t.byIP[ip]; l != nil {
		return l.mac, true
	}
	return [6]byte{}, false
}

func (t *leaseTable) set(l *lease) {
	if old := t.byMAC[l.mac]; old != nil {
		t.drop(old)
	}
	if old := t.byIP[l.ip]; old != nil {
		t.drop(old)
	}
	t.byMAC[l.mac], t.byIP[l.ip] = l, l
}

func (t *leaseTable) drop(l *lease) {
	delete(t.byMAC, l.mac)
	delete(t.byIP, l.ip)
}

// ours says whether an address is in the pool.
func (t *leaseTable) ours(ip netip.Addr) bool {
	return ip.IsValid() && !ip.Less(t.plan.from) && !t.plan.to.Less(ip) && ip != t.plan.self.Addr()
}

func (t *leaseTable) resting(ip netip.Addr, now time.Time) bool {
	until, ok := t.rested[ip]
	if ok && !now.Before(until) {
		delete(t.rested, ip)
		return false
	}
	return ok
}

// free says whether a pool address is nobody's, or was somebody's and has
// run out.
func (t *leaseTable) free(ip netip.Addr, now time.Time) bool {
	if !t.ours(ip) || t.resting(ip, now) {
		return false
	}
	if _, ok := t.plan.owner[ip]; ok {
		return false
	}
	l := t.byIP[ip]
	return l == nil || !now.Before(l.until)
}

// search looks for a free address, starting at one that depends on the MAC,
// so that a machine tends to get the same address after the table is lost.
// Addresses that were never given away come before those that ran out.
func (t *leaseTable) search(mac [6]byte, now time.Time) (netip.Addr, bool) {
	h := fnv.New32a()
	h.Write(mac[:])
	size := ipNumber(t.plan.to) - ipNumber(t.plan.from) + 1
	if size == 0 || size > 1<<16 {
		size = 1 << 16 // a /8 has more than anybody's room; bounds the search
	}
	start := h.Sum32() % size
	var used netip.Addr
	for i := range size {
		ip := numberIP(ipNumber(t.plan.from) + (start+i)%size)
		if !t.free(ip, now) {
			continue
		}
		if t.byIP[ip] == nil {
			return ip, true
		}
		if !used.IsValid() {
			used = ip
		}
	}
	return used, used.IsValid()
}

func ipNumber(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func numberIP(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
