// Package lab makes hosts out of network namespaces of one machine, joins
// them by links of a given rate, and runs programs in them. It is no simulator
// of a network: there is no loss and hardly any delay.
//
//	golden 10.79.0.1   eth0 ──tbf──┐        ┌──tbf── p1 ─ eth0  host 1 10.79.0.11
//	                               p0 ─ br0 ┼──tbf── p2 ─ eth0  host 2 10.79.0.12
//	                   (tbf each way) switch└──tbf── pN ─ eth0  host N
//
// Each host, golden too, has a link of its own to the switch, which is a
// namespace as well; a shaped link is shaped at both of its ends, so what
// arrives and what leaves have the link's rate each.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Golden is the number of the golden host; the others count from 1.
const Golden = 0

// Room is golden and its hosts on one switch.
type Room struct {
	Dir  string // in memory
	Rate string // of every link, as tc(8) has it; empty: as fast as the processor can

	hosts  []string // namespaces; the first is golden's
	made   []string // all namespaces, to be removed
	number int
}

// New makes a room with so many hosts beside golden.
func New(ctx context.Context, dir string, number, hosts int, rate string) (*Room, error) {
	r := &Room{Dir: dir, Rate: rate, number: number}
	err := r.build(ctx, hosts)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Room) build(ctx context.Context, hosts int) error {
	sw, err := r.namespace(ctx, "sw")
	if err != nil {
		return err
	}
	if err := ip(ctx, "-n", sw, "link", "add", "br0", "type", "bridge"); err != nil {
		return err
	}
	if err := ip(ctx, "-n", sw, "link", "set", "br0", "up"); err != nil {
		return err
	}
	for i := range hosts + 1 {
		if err := r.host(ctx, sw, i); err != nil {
			return err
		}
	}
	return nil
}

func (r *Room) namespace(ctx context.Context, what string) (string, error) {
	name := fmt.Sprintf("%s-%d-%s", prefix(), r.number, what)
	if err := ip(ctx, "netns", "add", name); err != nil {
		return "", err
	}
	r.made = append(r.made, name)
	return name, ip(ctx, "-n", name, "link", "set", "lo", "up")
}

func (r *Room) host(ctx context.Context, sw string, i int) error {
	ns, err := r.namespace(ctx, fmt.Sprint(i))
	if err != nil {
		return err
	}
	r.hosts = append(r.hosts, ns)
	port := fmt.Sprintf("p%d", i)
	for _, args := range [][]string{
		{"-n", sw, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns},
		{"-n", sw, "link", "set", port, "master", "br0", "up"},
		// Without a broadcast address udpcast finds nobody.
		{"-n", ns, "addr", "add", r.Addr(i) + "/24", "brd", "+", "dev", "eth0"},
		{"-n", ns, "link", "set", "eth0", "up"},
		{"-n", ns, "route", "add", "224.0.0.0/4", "dev", "eth0"},
	} {
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	if r.Rate == "" {
		return nil
	}
	return errors.Join(shape(ctx, ns, "eth0", r.Rate), shape(ctx, sw, port, r.Rate))
}

// shape limits what leaves a device. The burst is two of the largest packets
// that segmentation offload makes, 64 KiB; the queue, 50 ms, is a switch's.
func shape(ctx context.Context, ns, dev, rate string) error {
	return run(ctx, "tc", "-n", ns, "qdisc", "add", "dev", dev, "root", "tbf",
		"rate", rate, "burst", "128kb", "latency", "50ms")
}

// Addr is a host's address.
func (r *Room) Addr(host int) string {
	if host == Golden {
		return "10.79.0.1"
	}
	return fmt.Sprintf("10.79.0.%d", 10+host)
}

// Hosts is how many there are beside golden.
func (r *Room) Hosts() int { return len(r.hosts) - 1 }

// Close removes the namespaces, also after the context has ended.
func (r *Room) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, name := range r.made {
		errs = append(errs, ip(ctx, "netns", "del", name))
	}
	r.made = nil
	return errors.Join(errs...)
}

func ip(ctx context.Context, args ...string) error { return run(ctx, "ip", args...) }

func run(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
