package nic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

const (
	firstWait = time.Second // the library doubles it: 1, 2, 4 s
	tries     = 3
)

// wanted are the options a node can use.
func wanted() dhcpv4.Modifier {
	return dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName,
		dhcpv4.OptionHostName, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionServerIdentifier,
		dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue,
		dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName)
}

// request goes through discover, offer, request and acknowledgement once,
// with a few repetitions of each.
func request(ctx context.Context, l link, more ...dhcpv4.Modifier) (*Lease, error) {
	c, err := broadcastClient(l)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	got, err := c.Request(ctx, append(more, wanted())...)
	if err != nil {
		return nil, fmt.Errorf("dhcp on %s: %w", l.name, err)
	}
	return leaseOf(l.name, l.mac, got.ACK, time.Now())
}

// broadcastClient speaks on an interface that needs no address yet.
func broadcastClient(l link) (*nclient4.Client, error) {
	raw, err := nclient4.NewRawUDPConn(l.name, nclient4.ClientPort)
	if err != nil {
		return nil, fmt.Errorf("open raw socket on %s: %w", l.name, err)
	}
	c, err := nclient4.NewWithConn(guarded{raw}, l.mac, nclient4.WithTimeout(firstWait), nclient4.WithRetry(tries))
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("make dhcp client on %s: %w", l.name, err)
	}
	return c, nil
}

// guarded keeps a packet that the library can't cut up from ending the node:
// releases of it panicked at a UDP length shorter than UDP's own header.
type guarded struct{ net.PacketConn }

// ReadFrom passes such packets over. It ends when the connection is closed.
func (g guarded) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := g.readOne(b)
		if !errors.Is(err, errMalformed) {
			return n, from, err
		}
	}
}

var errMalformed = errors.New("malformed packet")

func (g guarded) readOne(b []byte) (n int, from net.Addr, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, from, err = 0, nil, fmt.Errorf("%w: %v", errMalformed, p)
		}
	}()
	return g.PacketConn.ReadFrom(b)
}
