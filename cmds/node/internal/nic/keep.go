package nic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// minRenew is the least time between two tries to renew: RFC 2131, 4.4.5 says
// 60 s; short leases get a shorter one.
const minRenew = time.Minute

// Keep renews the lease until ctx ends: by asking its server from T1 on,
// anybody from T2 on. An address that stays the same isn't touched, and one
// whose lease ran out unanswered is kept, since without it a clone under way
// would be lost for certain. changed, when not nil, is told each new lease.
func Keep(ctx context.Context, l *Lease, resolvConf string, log *slog.Logger, changed func(*Lease)) {
	if l.Duration >= infinite {
		return
	}
	for at := l.renewAt(); ; {
		if err := pause(ctx, time.Until(at)); err != nil {
			return
		}
		next, err := l.renew(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.Warn("can't renew the lease", "address", l.Addr.String(), "expires", l.expires().Format(time.TimeOnly), "cause", err)
			at = l.retryAt(time.Now())
			continue
		}
		if err := l.replaceBy(next, resolvConf); err != nil {
			log.Error("can't apply the renewed lease", "address", next.Addr.String(), "cause", err)
		}
		if next.Addr != l.Addr {
			log.Warn("the address changed", "from", l.Addr.String(), "to", next.Addr.String())
		}
		l = next
		at = l.renewAt()
		if changed != nil {
			changed(l)
		}
	}
}

// retryAt is half-way to the next bound, RFC 2131, 4.4.5.
func (l *Lease) retryAt(now time.Time) time.Time {
	bound := l.rebindAt()
	if now.After(bound) {
		bound = l.expires()
	}
	wait := bound.Sub(now) / 2
	least := min(minRenew, max(l.Duration/8, time.Second))
	return now.Add(max(wait, least))
}

func (l *Lease) replaceBy(next *Lease, resolvConf string) error {
	if next.Addr == l.Addr {
		return nil
	}
	if err := next.Apply(resolvConf); err != nil {
		return err
	}
	return l.drop()
}

// renew asks the server that granted the lease, or from T2 on any server.
func (l *Lease) renew(ctx context.Context) (*Lease, error) {
	mac, err := net.ParseMAC(l.MAC)
	if err != nil {
		return nil, fmt.Errorf("lease of %q: %w", l.Interface, err)
	}
	dev := link{name: l.Interface, mac: mac}
	if time.Now().After(l.rebindAt()) || !l.ServerID.IsValid() {
		return request(ctx, dev, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(l.Addr.Addr().AsSlice())))
	}
	ack, err := dhcpv4.FromBytes(l.Raw)
	if err != nil {
		return nil, fmt.Errorf("read the lease's own dhcp answer: %w", err)
	}
	server := &net.UDPAddr{IP: l.ServerID.AsSlice(), Port: nclient4.ServerPort}
	c, err := nclient4.New(l.Interface,
		nclient4.WithUnicast(&net.UDPAddr{IP: l.Addr.Addr().AsSlice(), Port: nclient4.ClientPort}),
		nclient4.WithServerAddr(server), nclient4.WithHWAddr(mac),
		nclient4.WithTimeout(firstWait), nclient4.WithRetry(tries))
	if err != nil {
		return nil, fmt.Errorf("open dhcp client on %s: %w", l.Addr.Addr(), err)
	}
	defer c.Close()
	got, err := c.Renew(ctx, &nclient4.Lease{Offer: ack, ACK: ack}, wanted())
	var nak *nclient4.ErrNak
	if errors.As(err, &nak) { // the server forgot us: from the start, RFC 2131, 4.4.5
		return request(ctx, dev)
	}
	if err != nil {
		return nil, fmt.Errorf("renew with %s: %w", l.ServerID, err)
	}
	next, err := leaseOf(l.Interface, mac, got.ACK, time.Now())
	if err != nil {
		return nil, err
	}
	return l.filledInto(next), nil
}

// filledInto keeps what a server leaves out of a renewal.
func (l *Lease) filledInto(next *Lease) *Lease {
	if !next.Router.IsValid() {
		next.Router = l.Router
	}
	if len(next.DNS) == 0 {
		next.DNS, next.Domain = l.DNS, l.Domain
	}
	if !next.NextServer.IsValid() {
		next.NextServer = l.NextServer
	}
	if !next.ServerID.IsValid() {
		next.ServerID = l.ServerID
	}
	if next.Hostname == "" {
		next.Hostname = l.Hostname
	}
	return next
}
