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
//
// A machine is known if it has a fixed address or is to boot the image; every
// other one is a stranger. Strangers get three quarters of a pool at most,
// and lose an address that was offered to them only to a known machine that
// finds no other. So a flood of invented machines doesn't shut out those that
// are to be cloned.

const (
	offerTime    = 10 * time.Second // how long an offered address waits for its REQUEST
	strangerTime = 5 * time.Second  // the same for a stranger; UEFI takes 4 s from offer to request
	declineTime  = 10 * time.Minute // how long an address that somebody else uses rests
	reapEvery    = time.Second      // so late an offer that has run out is noticed
	searchSteps  = 256              // after so many an address that ran out is as good as a new one
)

// lease is one address given away.
type lease struct {
	mac     [6]byte
	ip      netip.Addr
	until   time.Time
	offered bool    // offered only, not yet requested
	counted *subnet // a stranger's: in this subnet's count
}

// leaseTable is the state of full mode.
type leaseTable struct {
	plan plan
	term time.Duration
	file *leaseFile // nil: in memory only; set before anybody asks

	mu     sync.Mutex
	byMAC  map[[6]byte]*lease
	byIP   map[netip.Addr]*lease
	rested map[netip.Addr]time.Time // declined addresses
	reaped time.Time                // when reap went through the table
}

func newLeaseTable(p plan, term time.Duration) *leaseTable {
	return &leaseTable{plan: p, term: term,
		byMAC: map[[6]byte]*lease{}, byIP: map[netip.Addr]*lease{}, rested: map[netip.Addr]time.Time{}}
}

// asker is a machine that wants an address.
type asker struct {
	mac   [6]byte
	net   *subnet
	known bool
}

// fixed is the asker's address for ever, if it has one in this network.
func (t *leaseTable) fixed(a asker) (netip.Addr, bool) {
	ip, ok := t.plan.fixed[a.mac]
	return ip, ok && a.net.prefix.Contains(ip)
}

// offer finds an address for a machine: its fixed one, the one that it has
// or had, the one it asks for, or a free one. false: the pool is used up.
func (t *leaseTable) offer(a asker, wanted netip.Addr, now time.Time) (netip.Addr, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reap(now)
	if ip, ok := t.fixed(a); ok {
		return ip, true
	}
	if l := t.byMAC[a.mac]; l != nil && a.net.has(l.ip) && !t.resting(l.ip, now) && (now.Before(l.until) || t.room(a)) {
		a.known = a.known || l.known(now)
		if l.offered || !now.Before(l.until) {
			l.until = now.Add(a.patience())
			l.offered = true
		}
		t.count(l, a)
		return l.ip, true
	}
	if !t.room(a) {
		return netip.Addr{}, false
	}
	ip, ok := wanted, t.free(a.net, wanted, now)
	if !ok {
		ip, ok = t.search(a, now)
	}
	if ok {
		t.set(&lease{mac: a.mac, ip: ip, until: now.Add(a.patience()), offered: true}, a)
	}
	return ip, ok
}

func (a asker) patience() time.Duration {
	if a.known {
		return offerTime
	}
	return strangerTime
}

// confirm gives a machine the address that it requests, if it may have it.
// The lease is in the lease file when flush returns.
func (t *leaseTable) confirm(a asker, ip netip.Addr, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reap(now)
	if fixed, ok := t.fixed(a); ok {
		return fixed == ip
	}
	l := t.byMAC[a.mac]
	if l == nil || l.ip != ip {
		if !t.free(a.net, ip, now) || !t.room(a) {
			return false
		}
	} else if !a.net.has(ip) || !now.Before(l.until) && !t.room(a) {
		return false
	}
	a.known = a.known || l != nil && l.known(now)
	l = &lease{mac: a.mac, ip: ip, until: now.Add(t.term)}
	t.set(l, a)
	if t.file != nil {
		t.file.queue(l)
	}
	return true
}

// flush writes the leases of confirm to their file.
func (t *leaseTable) flush() error {
	if t.file == nil {
		return nil
	}
	return t.file.flush(t)
}

// decline takes an address out of use for a while: its client found that
// somebody else has it (RFC 2131 4.3.3). A quarter of a network at most
// rests: whoever declines all that he is offered doesn't shut it down.
func (t *leaseTable) decline(a asker, ip netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byMAC[a.mac]; l != nil && l.ip == ip {
		t.drop(l)
		if len(t.rested) <= a.net.size()/4 {
			t.rested[ip] = now.Add(declineTime)
		}
	}
}

// release ends a lease early; the machine gets the address again as long as
// nobody else needs it.
func (t *leaseTable) release(mac [6]byte, ip netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byMAC[mac]; l != nil && l.ip == ip {
		l.until = now
		l.uncount()
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

func (t *leaseTable) set(l *lease, a asker) {
	if old := t.byMAC[l.mac]; old != nil {
		t.drop(old)
	}
	if old := t.byIP[l.ip]; old != nil {
		t.drop(old)
	}
	t.byMAC[l.mac], t.byIP[l.ip] = l, l
	t.count(l, a)
}

func (t *leaseTable) drop(l *lease) {
	l.uncount()
	delete(t.byMAC, l.mac)
	delete(t.byIP, l.ip)
}

// count notes whether an address is a stranger's.
func (t *leaseTable) count(l *lease, a asker) {
	l.uncount()
	if !a.known {
		l.counted = a.net
		a.net.strangers++
	}
}

// known says whether this is a known machine's. Who was known once stays so
// while it has its address: its installed system says nothing of PXE.
func (l *lease) known(now time.Time) bool { return l.counted == nil && now.Before(l.until) }

func (l *lease) uncount() {
	if l.counted != nil {
		l.counted.strangers--
		l.counted = nil
	}
}

// room says whether one more address may go to this machine.
func (t *leaseTable) room(a asker) bool {
	size := a.net.size()
	return a.known || a.net.strangers < size-size/4
}

// reap forgets offers that have run out, and takes leases that have out of
// the count of strangers; once a second, so that a flood doesn't make us go
// through the table for each packet.
func (t *leaseTable) reap(now time.Time) {
	if now.Sub(t.reaped) < reapEvery && !now.Before(t.reaped) {
		return
	}
	t.reaped = now
	for _, l := range t.byMAC {
		if now.Before(l.until) {
			continue
		}
		l.uncount()
		if l.offered {
			t.drop(l)
		}
	}
	for ip, until := range t.rested {
		if !now.Before(until) {
			delete(t.rested, ip)
		}
	}
}

func (t *leaseTable) resting(ip netip.Addr, now time.Time) bool {
	return now.Before(t.rested[ip])
}

// free says whether a pool address is nobody's, or was somebody's and has
// run out.
func (t *leaseTable) free(n *subnet, ip netip.Addr, now time.Time) bool {
	if !n.has(ip) || t.resting(ip, now) {
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
// Addresses that were never given away come before those that ran out; a
// known machine may take what was only offered to a stranger.
func (t *leaseTable) search(a asker, now time.Time) (netip.Addr, bool) {
	h := fnv.New32a()
	h.Write(a.mac[:])
	size := uint32(a.net.size())
	start := h.Sum32() % size
	var used, offered netip.Addr
	for i := range size {
		ip := numberIP(ipNumber(a.net.from) + (start+i)%size)
		l := t.byIP[ip]
		switch {
		case t.free(a.net, ip, now) && l == nil:
			return ip, true
		case l == nil: // ours, fixed, or resting
		case t.free(a.net, ip, now) && !used.IsValid():
			used = ip
		case l.offered && l.counted != nil && !offered.IsValid() && !t.resting(ip, now):
			offered = ip
		}
		if used.IsValid() && i > searchSteps {
			break
		}
	}
	if !used.IsValid() && a.known {
		used = offered
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
