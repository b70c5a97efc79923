package golden

import (
	"context"
	"errors"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// Send gives a source to so many receivers, and nothing else.
func Send(ctx context.Context, c Config, src chain.Source) (Result, error) {
	d := newDeployment(c)
	d.server.Admit = func(r wire.Register) error {
		if r.Stage != wire.Receive {
			return errors.New("this session sends to karecv only; it is no clone")
		}
		return d.roomFor(r)
	}
	err := d.serve(ctx, nil, func(ctx context.Context) error {
		nodes, err := d.gather(ctx, wire.Receive)
		if err != nil {
			return err
		}
		if err := d.transfer(ctx, "sending", src, nodes); err != nil {
			return err
		}
		d.setPhase("receivers finish")
		if err := d.confirm(ctx, wire.Receive); err != nil {
			return err
		}
		d.release(ctx, d.in(wire.Receive), false, 0)
		return nil
	})
	return d.result(), err
}

// roomFor refuses more machines than are wanted, and those that come when the
// transfer is over.
func (d *deployment) roomFor(r wire.Register) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.head != nil {
		return errors.New("the session has begun without this machine")
	}
	n := 0
	for _, o := range d.nodes {
		if o.MAC != "" && o.MAC == r.MAC {
			return nil // back again
		}
		if o.State() != status.Failed && !o.left() {
			n++
		}
	}
	if n >= d.Nodes {
		return errors.New("the session is full")
	}
	return nil
}
