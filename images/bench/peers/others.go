package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/kamethod/kamethod/images/bench/lab"
)

// Iperf3 is the rate that one TCP stream reaches from golden to host 1, in
// bytes a second, as the receiver sees it. The first second is
// left out, unless it is the only one.
func Iperf3(ctx context.Context, room *lab.Room, seconds int) (float64, error) {
	c := &crew{ctx: ctx, room: room}
	defer c.dismiss()
	limit := time.Duration(seconds)*time.Second + 30*time.Second
	omit := "1"
	if seconds < 2 {
		omit = "0"
	}
	s, err := c.start(1, lab.Command{Prog: "iperf3", Args: []string{"-s", "-1", "--forceflush"}, Limit: limit})
	if err != nil {
		return 0, err
	}
	if _, err := s.Expect(ctx, "Server listening", joinLimit); err != nil {
		return 0, err
	}
	g, err := c.start(lab.Golden, lab.Command{Prog: "iperf3", Limit: limit,
		Args: []string{"-c", room.Addr(1), "-t", fmt.Sprint(seconds), "-O", omit, "-J"}})
	if err != nil {
		return 0, err
	}
	if _, err := c.wait(); err != nil {
		return 0, err
	}
	var out struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(g.Output()), &out); err != nil {
		return 0, fmt.Errorf("read iperf3's result: %w", err)
	}
	if out.End.Received.Rate <= 0 {
		return 0, fmt.Errorf("iperf3 gives no rate: %s", g.Output())
	}
	return out.End.Received.Rate / 8, nil
}

// Udpcast is udp-sender and udp-receiver. Of the options tried on this kind
// of network (half and full duplex, slices of 128 to 1024, forward error
// correction, bit rates of 300 and 600 Mbit/s) full duplex without a limit was
// as fast as any: the processor is what bounds it.
type Udpcast struct{}

// Send of Udpcast.
func (Udpcast) Send(ctx context.Context, room *lab.Room, src Source, n int) (r Result, err error) {
	c := &crew{ctx: ctx, room: room}
	defer c.dismiss()
	start := time.Now()
	g, err := c.start(lab.Golden, lab.Command{Prog: "udp-sender", Args: []string{"--file", src.Path, "--interface", "eth0",
		"--min-receivers", fmt.Sprint(n), "--full-duplex", "--nokbd", "--no-progress"}})
	if err != nil {
		return r, err
	}
	if _, err := g.Expect(ctx, "Broadcasting control", joinLimit); err != nil {
		return r, err
	}
	for i := range n {
		if _, err := c.start(i+1, lab.Command{Prog: "udp-receiver", Args: []string{"--file", copyPath(room, i+1),
			"--interface", "eth0", "--nokbd", "--no-progress"}}); err != nil {
			return r, err
		}
	}
	begun, err := g.Expect(ctx, "Starting transfer", joinLimit)
	if err != nil {
		return r, err
	}
	if _, err := c.wait(); err != nil {
		return r, err
	}
	return c.measured(start, begun), nil
}

// port is where socat listens: listen, in its own words, once, and also when
// the port is still warm from the run before.
const (
	port   = "9000"
	listen = "TCP-LISTEN:" + port + ",reuseaddr"
)

// dial lets socat try for 10 s: the next host may not listen yet.
func dial(room *lab.Room, host int) string {
	return fmt.Sprintf("TCP:%s:%s,retry=200,interval=0.05", room.Addr(host), port)
}

// buffer is what socat and tee are given to read at a time where they can be
// given it: with socat's own 8 KiB it is much slower.
const buffer = "131072"

// Chain is socat and tee from host to host: the least that a chain can do.
type Chain struct{}

// Send of Chain. CPU has golden's, and each host's programs together.
func (Chain) Send(ctx context.Context, room *lab.Room, src Source, n int) (r Result, err error) {
	c := &crew{ctx: ctx, room: room}
	defer c.dismiss()
	start := time.Now()
	var hosts [][]*lab.Process
	for i := range n {
		before := len(c.procs)
		if i+1 < n {
			err = c.relay(i + 1)
		} else {
			_, err = c.start(n, lab.Command{Prog: "socat", Args: []string{"-u", "-b", buffer, listen, "CREATE:" + copyPath(room, n)}})
		}
		if err != nil {
			return r, err
		}
		hosts = append(hosts, c.procs[before:])
	}
	// The hosts dial each other as soon as they are dialled; an instant lets
	// them get there, and is not counted.
	select {
	case <-ctx.Done():
		return r, ctx.Err()
	case <-time.After(300 * time.Millisecond):
	}
	begun := time.Now()
	g, err := c.start(lab.Golden, lab.Command{Prog: "socat", Args: []string{"-u", "-b", buffer, "OPEN:" + src.Path, dial(room, 1)}})
	if err != nil {
		return r, err
	}
	last, err := c.wait()
	if err != nil {
		return r, err
	}
	r = Result{Transfer: last.Sub(begun), Whole: last.Sub(start), CPU: []time.Duration{g.CPU()}}
	for _, h := range hosts {
		var sum time.Duration
		for _, p := range h {
			sum += p.CPU()
		}
		r.CPU = append(r.CPU, sum)
	}
	return r, nil
}

// relay is socat | tee copy | socat.
func (c *crew) relay(host int) error {
	r1, w1, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	r2, w2, err := os.Pipe()
	if err != nil {
		r1.Close()
		w1.Close()
		return fmt.Errorf("make pipe: %w", err)
	}
	for _, cmd := range []lab.Command{
		{Prog: "socat", Args: []string{"-u", "-b", buffer, listen, "STDOUT"}, Stdout: w1},
		{Prog: "tee", Args: []string{copyPath(c.room, host)}, Stdin: r1, Stdout: w2},
		{Prog: "socat", Args: []string{"-u", "-b", buffer, "STDIN", dial(c.room, host+1)}, Stdin: r2},
	} {
		if _, err := c.start(host, cmd); err != nil {
			return err
		}
	}
	return nil
}

// Tar is tar to tar, to one receiver.
type Tar struct{}

// Send of Tar. All of it counts: there is nothing before the transfer.
func (Tar) Send(ctx context.Context, room *lab.Room, src Source, _ int) (r Result, err error) {
	if err := os.Mkdir(copyPath(room, 1), 0o755); err != nil {
		return r, fmt.Errorf("make target: %w", err)
	}
	c := &crew{ctx: ctx, room: room}
	defer c.dismiss()
	for _, half := range []struct {
		host        int
		left, right lab.Command
	}{
		{1, lab.Command{Prog: "socat", Args: []string{"-u", "-b", buffer, listen, "STDOUT"}},
			lab.Command{Prog: "tar", Args: []string{"-C", copyPath(room, 1), "--numeric-owner", "-xpf", "-"}}},
		{lab.Golden, lab.Command{Prog: "tar", Args: []string{"-C", src.Path, "-cf", "-", "."}},
			lab.Command{Prog: "socat", Args: []string{"-u", "-b", buffer, "STDIN", dial(room, 1)}}},
	} {
		pr, pw, err := os.Pipe()
		if err != nil {
			return r, fmt.Errorf("make pipe: %w", err)
		}
		half.left.Stdout, half.right.Stdin = pw, pr
		if _, err := c.start(half.host, half.left); err != nil {
			pr.Close()
			return r, err
		}
		if _, err := c.start(half.host, half.right); err != nil {
			return r, err
		}
	}
	begun := c.procs[2].Begun // golden's tar
	last, err := c.wait()
	if err != nil {
		return r, err
	}
	r.Transfer = last.Sub(begun)
	r.Whole = r.Transfer
	return r, nil
}
