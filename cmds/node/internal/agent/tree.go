package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// upward is the way to golden, or to the node above. Whoever can't take more
// makes the others wait, down to the programs.
type upward struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (u *upward) send(f wire.ExecFrame) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.enc.Encode(f)
}

// answer sends up what our program says, and what comes from below, until all
// of that has ended. cancel ends it early: when nobody above takes it.
func (a *Agent) answer(ctx context.Context, cancel context.CancelCauseFunc, r *run, o wire.ExecOrder, me int, s wire.SignedExec, w io.Writer) error {
	r.ask(+1)
	defer r.ask(-1)
	up := &upward{enc: json.NewEncoder(w)}
	done, finish := context.WithCancel(ctx)
	defer finish()
	var beat, work sync.WaitGroup
	beat.Go(func() { // ends with what is below
		if err := everyBeat(done, func() error { return up.send(wire.ExecFrame{}) }); err != nil {
			cancel(err)
		}
	})
	work.Go(func() {
		if err := sendOwn(ctx, r, o.Nodes[me].Number, s.From, up); err != nil {
			cancel(err)
		}
	})
	for i, n := range o.Nodes {
		if n.Above != me {
			continue
		}
		work.Go(func() {
			if err := a.below(ctx, r, o, i, s, up); err != nil {
				a.Log.Debug("a node below is lost", "node", n.Number, "err", err)
				if err := up.send(wire.ExecFrame{Node: n.Number, Lost: err.Error()}); err != nil {
					cancel(err)
				}
			}
		})
	}
	work.Wait()
	finish()
	beat.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return up.send(wire.ExecFrame{End: true})
}

// everyBeat says something now and then, until it fails or ctx ends.
func everyBeat(ctx context.Context, say func() error) error {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := say(); err != nil {
			return err
		}
	}
}

// sendOwn sends what our own program says.
func sendOwn(ctx context.Context, r *run, number int, from uint64, up *upward) error {
	for seq := max(from, 1); ; {
		f, over, changed := r.spool.next(seq)
		switch {
		case f != nil:
			frame := *f
			frame.Node = number
			if err := up.send(frame); err != nil {
				return err
			}
			r.spool.did(frame)
			seq = frame.Seq + 1
		case over:
			return nil
		default:
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
		}
	}
}

// below brings the order to a node below us, and sends up what comes from there.
func (a *Agent) below(ctx context.Context, r *run, o wire.ExecOrder, place int, s wire.SignedExec, up *upward) error {
	n := o.Nodes[place]
	dialCtx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	d := tls.Dialer{NetDialer: &net.Dialer{KeepAlive: 2 * time.Second}, Config: trust.ClientConfig(a.Identity, n.Pin)}
	conn, err := d.DialContext(dialCtx, "tcp", n.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, end := context.WithCancel(ctx)
	defer end()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s.From = 0
	if err := conn.SetWriteDeadline(time.Now().Add(quietUp)); err != nil {
		return err
	}
	down := json.NewEncoder(conn)
	if err := down.Encode(wire.AgentOrder{Exec: &s}); err != nil {
		return err
	}
	var beat sync.WaitGroup
	defer beat.Wait()
	defer end()
	beat.Go(func() { downward(ctx, conn, down, r, o.Serial) }) // ends with ctx
	return relay(conn, branch(o, place), up)
}

// downward tells the node below that we are here, and when to end.
func downward(ctx context.Context, conn net.Conn, down *json.Encoder, r *run, serial uint64) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	going := r.going.Done()
	for {
		o := wire.AgentOrder{Ping: true}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-going:
			going = nil
			if errors.Is(context.Cause(r.going), errCancelled) {
				o = wire.AgentOrder{Cancel: serial}
			}
		}
		_ = conn.SetWriteDeadline(time.Now().Add(quietUp)) // who is below always reads
		if down.Encode(o) != nil {
			conn.Close() // relay sees it
			return
		}
	}
}

// branch is who is at a place of the tree, or below it.
func branch(o wire.ExecOrder, place int) map[int]bool {
	in := map[int]bool{place: true}
	out := map[int]bool{o.Nodes[place].Number: true}
	for i := place + 1; i < len(o.Nodes); i++ {
		if in[o.Nodes[i].Above] {
			in[i], out[o.Nodes[i].Number] = true, true
		}
	}
	return out
}

// relay passes on what comes from below, to its end.
func relay(conn net.Conn, from map[int]bool, up *upward) error {
	in := bufio.NewScanner(conn)
	in.Buffer(make([]byte, 4<<10), wire.MaxExecFrame)
	for {
		// Only while we read: what is above may have made us wait.
		if err := conn.SetReadDeadline(time.Now().Add(quietDown)); err != nil {
			return err
		}
		if !in.Scan() {
			if err := in.Err(); err != nil {
				return err
			}
			return io.ErrUnexpectedEOF
		}
		var f wire.ExecFrame
		if err := json.Unmarshal(in.Bytes(), &f); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		switch {
		case f.End:
			return nil
		case f.Node == 0: // a beat
			continue
		case !from[f.Node]:
			return fmt.Errorf("answer: of node %d, which isn't below it", f.Node)
		}
		if err := up.send(f); err != nil {
			return err
		}
	}
}

// accept takes connections from other nodes until the port is closed.
func (a *Agent) accept(ln net.Listener) {
	slots := make(chan struct{}, maxPeers)
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(beatEvery / 10)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		a.tasks.Go(func() { // ends with the connection, which has deadlines
			defer func() { <-slots }()
			defer conn.Close()
			if err := a.fromAbove(conn.(*tls.Conn)); err != nil {
				a.Log.Debug("a node above", "addr", conn.RemoteAddr(), "err", err)
			}
		})
	}
}

// fromAbove obeys an order that another node brings, if it is the one that is
// to bring it.
func (a *Agent) fromAbove(conn *tls.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(helloLimit)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return err
	}
	peer, err := trust.PeerPin(conn.ConnectionState())
	if err != nil {
		return err
	}
	in := bufio.NewScanner(conn)
	in.Buffer(make([]byte, 4<<10), 2*wire.MaxExecOrder)
	var first wire.AgentOrder
	if !in.Scan() {
		return errors.Join(in.Err(), io.ErrUnexpectedEOF)
	}
	if err := json.Unmarshal(in.Bytes(), &first); err != nil || first.Exec == nil {
		return fmt.Errorf("no order: %w", err)
	}
	o, me, err := a.open(*first.Exec)
	if err != nil {
		return err
	}
	if above := o.Nodes[me].Above; above < 0 || o.Nodes[above].Pin != peer {
		return errors.New("exec order: brought by a node that isn't above this one")
	}
	r, err := a.take(o)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.asked)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var listen sync.WaitGroup
	listen.Go(func() { cancel(a.hearAbove(conn, in, o.Serial)) }) // ends with the connection
	err = a.answer(ctx, cancel, r, o, me, *first.Exec, conn)
	_ = conn.CloseWrite() // what was said gets there before the end does
	hangUp := time.AfterFunc(killAfter, func() { cancel(err) })
	listen.Wait() // the node above closes the connection
	hangUp.Stop()
	return err
}

// hearAbove hears the node above for as long as it lives.
func (a *Agent) hearAbove(conn net.Conn, in *bufio.Scanner, serial uint64) error {
	for {
		if err := conn.SetReadDeadline(time.Now().Add(quietUp)); err != nil {
			return err
		}
		if !in.Scan() {
			return errors.Join(in.Err(), io.ErrUnexpectedEOF)
		}
		var o wire.AgentOrder
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return fmt.Errorf("order: %w", err)
		}
		if o.Cancel == serial {
			a.cancelRun(serial)
		}
	}
}
