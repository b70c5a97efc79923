package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kamethod/kamethod/images/bench/crowd"
	"github.com/kamethod/kamethod/images/bench/feed"
	"github.com/kamethod/kamethod/images/bench/figures"
	"github.com/kamethod/kamethod/images/bench/lab"
	"github.com/kamethod/kamethod/images/bench/peers"
)

const (
	crowdPerAddr = 4 // as many transfers as golden gives one address
	crowdLimit   = 3 * time.Minute
	rateTries    = 3 // of a rate: it may have been another program that had the processor
	oursName     = "kamethod"
)

// netbootSizes are how much part h measures.
type netbootSizes struct {
	rates     []int   // of perfdhcp, exchanges a second
	seconds   int     // for each rate
	leases    int     // different machines of perfdhcp
	lost      float64 // percent: a rate that loses more is too high
	machines  int     // switched on at once
	one       int64   // bytes, one TFTP client
	sessions  int     // TFTP
	small     int64   // bytes, each session
	lossy     int     // TFTP clients at 1 % loss
	loader    int64   // bytes, each of them
	http      int     // clients
	httpBytes int64   // each
}

var (
	netbootFull = netbootSizes{rates: []int{100, 200, 400, 800, 1600, 2400, 3200, 4800, 6400, 9600, 12800, 19200}, seconds: 3, leases: 2000, lost: 1,
		machines: 1000, one: 32 << 20, sessions: 512, small: 512 << 10, lossy: 64, loader: 2 << 20, http: 256, httpBytes: 4 << 20}
	netbootQuick = netbootSizes{rates: []int{10, 20}, seconds: 1, leases: 20, lost: 50,
		machines: 20, one: 1 << 20, sessions: 16, small: 64 << 10, lossy: 4, loader: 128 << 10, http: 8, httpBytes: 128 << 10}
)

// netboot is part h: golden-serve as the network's DHCP server, and its boot
// files, beside programs that do nothing else.
func (r *run) netboot(ctx context.Context) error {
	size := netbootFull
	if r.quick {
		size = netbootQuick
	}
	dir := filepath.Join(r.dir, "netboot")
	defer os.RemoveAll(dir)
	return r.room(ctx, 1, "", func(room *lab.Room) error {
		addrs := max(size.sessions, size.lossy, size.http)/crowdPerAddr + 1
		err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755), peers.NetbootAddresses(ctx, room, addrs))
		if err != nil {
			return err
		}
		n := netbootRun{run: r, netbootSizes: size, room: room, dir: dir}
		return errors.Join(n.dhcp(ctx), n.storm(ctx), n.tftp(ctx), n.loss(ctx), n.http256(ctx))
	})
}

type netbootRun struct {
	*run
	netbootSizes
	room *lab.Room
	dir  string
}

// with serves boot files of one size and calls f.
func (n *netbootRun) with(ctx context.Context, bytes int64, s func() (peers.Netboot, error), f func(name string) error) error {
	err := peers.NetbootTree(n.dir, func(path string) error { return feed.Random(ctx, path, bytes) })
	if err != nil {
		return err
	}
	server, err := s()
	if err != nil {
		return err
	}
	p, err := server.Serve(ctx, n.room)
	if err != nil {
		return err
	}
	defer p.Stop()
	return f(server.Name)
}

func (n *netbootRun) ours() (peers.Netboot, error) {
	return peers.NetbootOurs(n.bin, n.dir, max(n.leases, n.machines)), nil
}
func (n *netbootRun) dnsmasq() (peers.Netboot, error) { return peers.NetbootDnsmasq(n.dir), nil }
func (n *netbootRun) tftpd() (peers.Netboot, error)   { return peers.NetbootTftpd(n.dir), nil }
func (n *netbootRun) nginx() (peers.Netboot, error)   { return peers.NetbootNginx(n.dir) }

// each measures the same with all servers, in the turns of contest, and keeps
// each one's best.
func (n *netbootRun) each(ctx context.Context, bytes int64, less bool, measure func(context.Context) (float64, error),
	servers ...func() (peers.Netboot, error)) (map[string]float64, error) {
	best := map[string]float64{}
	for turn := range n.repeat {
		for i := range servers {
			s := servers[i]
			if turn%2 == 1 {
				s = servers[len(servers)-1-i]
			}
			err := n.with(ctx, bytes, s, func(name string) error {
				x, err := measure(ctx)
				if err != nil && name != oursName && ctx.Err() == nil {
					n.report.Note("h: %s: %s", name, firstLine(err)) // its failure is a result too
					return nil
				}
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				n.say("  %s: %.4g", name, x)
				if b, ok := best[name]; !ok || less && x < b || !less && x > b {
					best[name] = x
				}
				return nil
			})
			if err != nil {
				return best, err
			}
		}
	}
	return best, nil
}

func (n *netbootRun) add(what string, count int, unit string, less bool, best map[string]float64, peer string) {
	ours, theirs := best[oursName], best[peer]
	if ours == 0 || theirs == 0 {
		n.report.Note("h: %s, %d, against %s: not measured: ours %g, theirs %g", what, count, peer, ours, theirs)
		return
	}
	n.report.Add(figures.Figure{Part: "h", What: what, Receivers: count, Unit: unit, Ours: ours, Less: less, Peer: peer}.By(theirs))
}

// goal holds ours against a figure that was promised.
func (n *netbootRun) goal(what string, count int, unit string, less bool, best map[string]float64, name string, bound float64) {
	n.add(what, count, unit, less, map[string]float64{oursName: best[oursName], name: bound}, name)
}

// dhcp looks for the highest rate of whole exchanges at which no more than
// 1 % of the packets are lost.
func (n *netbootRun) dhcp(ctx context.Context) error {
	n.say("  perfdhcp at rising rates")
	best, err := n.each(ctx, 1, false, n.highest, n.ours, n.dnsmasq)
	if err != nil {
		return err
	}
	n.add(figures.DHCPRate, n.leases, "exchanges/s", false, best, "dnsmasq")
	n.goal(figures.DHCPRate, n.leases, "exchanges/s", false, best, figures.DHCPGoal, 10000)
	return nil
}

func (n *netbootRun) highest(ctx context.Context) (best float64, err error) {
	for _, rate := range n.rates {
		ok := false
		for try := 0; try < rateTries && !ok; try++ {
			got, lost, err := n.perfdhcp(ctx, rate)
			if err != nil {
				return best, err
			}
			if ok = lost <= n.lost; ok {
				best = max(best, got)
			}
		}
		if !ok {
			break
		}
	}
	return best, nil
}

var (
	perfRate = regexp.MustCompile(`(?m)^Rate: ([0-9.e+]+) 4-way exchanges/second`)
	perfLost = regexp.MustCompile(`(?m)^drops ratio: ([0-9.e+-]+) %`)
)

// perfdhcp asks as ROMs ask. Its exit status is 3 when it has lost a packet.
func (n *netbootRun) perfdhcp(ctx context.Context, rate int) (got, lost float64, err error) {
	p, err := n.room.Start(ctx, 1, lab.Command{Prog: "perfdhcp", Limit: time.Minute, Args: []string{"-4", "-l", "eth0", "-r", fmt.Sprint(rate),
		"-R", fmt.Sprint(n.leases), "-p", fmt.Sprint(n.seconds), "-W", "1000000", "-b", "mac=52:54:00:88:00:00",
		"-o", "60," + fmt.Sprintf("%x", "PXEClient:Arch:00000:UNDI:002001"), "-o", "93,0000", "all"}})
	if err != nil {
		return 0, 0, err
	}
	werr := p.Wait()
	if ctx.Err() != nil {
		return 0, 0, ctx.Err()
	}
	return parsePerfdhcp(p.Output(), werr)
}

func parsePerfdhcp(out string, werr error) (got, lost float64, err error) {
	m := perfRate.FindStringSubmatch(out)
	ratios := perfLost.FindAllStringSubmatch(out, -1)
	if m == nil || len(ratios) != 2 {
		return 0, 0, fmt.Errorf("perfdhcp prints no rate and two ratios of drops: %w:\n%s", errors.Join(werr, errors.New("not understood")), out)
	}
	if got, err = strconv.ParseFloat(m[1], 64); err != nil {
		return 0, 0, fmt.Errorf("rate of perfdhcp %q: %w", m[1], err)
	}
	for _, r := range ratios {
		x, err := strconv.ParseFloat(r[1], 64)
		if err != nil {
			return 0, 0, fmt.Errorf("drops of perfdhcp %q: %w", r[1], err)
		}
		lost = max(lost, x)
	}
	return got, lost, nil
}

// storm switches machines on in one moment.
func (n *netbootRun) storm(ctx context.Context) error {
	n.say("  %d machines are switched on at once", n.machines)
	best, err := n.each(ctx, 1, true, func(ctx context.Context) (float64, error) {
		got, err := n.crowd(ctx, crowd.Order{Proto: crowd.DHCP, Clients: n.machines})
		return got.Seconds, err
	}, n.ours, n.dnsmasq)
	if err != nil {
		return err
	}
	n.add(figures.Storm, n.machines, "s", true, best, "dnsmasq")
	n.goal(figures.Storm, n.machines, "s", true, best, figures.StormGoal, 5)
	return nil
}

// tftp is one client, then many at once.
func (n *netbootRun) tftp(ctx context.Context) error {
	for _, c := range []struct {
		clients int
		bytes   int64
	}{{1, n.one}, {n.sessions, n.small}} {
		n.say("  TFTP, %d clients", c.clients)
		best, err := n.each(ctx, c.bytes, false, func(ctx context.Context) (float64, error) {
			return n.megabytes(ctx, crowd.TFTP, 69, c.clients)
		}, n.ours, n.dnsmasq, n.tftpd)
		if err != nil {
			return err
		}
		n.add(figures.TFTP, c.clients, "MB/s in all", false, best, "dnsmasq")
		n.add(figures.TFTP, c.clients, "MB/s in all", false, best, "tftpd-hpa")
	}
	return nil
}

// loss drops one packet of a hundred, at both ends.
func (n *netbootRun) loss(ctx context.Context) error {
	n.say("  TFTP, %d clients, 1 %% loss", n.lossy)
	for _, host := range []int{lab.Golden, 1} {
		for _, words := range []string{"add table ip loss", "add chain ip loss in { type filter hook input priority 0 ; }",
			"add rule ip loss in ip protocol udp numgen random mod 100 < 1 drop"} {
			if err := n.room.Run(ctx, host, "nft", words); err != nil {
				return err
			}
		}
	}
	best, err := n.each(ctx, n.loader, true, func(ctx context.Context) (float64, error) {
		got, err := n.crowd(ctx, n.fetch(crowd.TFTP, 69, n.lossy))
		return got.Seconds, err
	}, n.ours)
	for _, host := range []int{lab.Golden, 1} {
		err = errors.Join(err, n.room.Run(ctx, host, "nft", "delete table ip loss"))
	}
	if err != nil {
		return err
	}
	n.goal(figures.Loss, n.lossy, "s, the last", true, best, figures.LossGoal, 20)
	return nil
}

func (n *netbootRun) http256(ctx context.Context) error {
	n.say("  HTTP, %d clients", n.http)
	best, err := n.each(ctx, n.httpBytes, false, func(ctx context.Context) (float64, error) {
		return n.megabytes(ctx, crowd.HTTP, peers.NetbootHTTP, n.http)
	}, n.ours, n.nginx)
	if err != nil {
		return err
	}
	n.add(figures.HTTP, n.http, "MB/s in all", false, best, "nginx")
	return nil
}

func (n *netbootRun) megabytes(ctx context.Context, proto string, port uint16, clients int) (float64, error) {
	got, err := n.crowd(ctx, n.fetch(proto, port, clients))
	if err != nil {
		return 0, err
	}
	return float64(got.Bytes) / 1e6 / got.Seconds, nil
}

func (n *netbootRun) fetch(proto string, port uint16, clients int) crowd.Order {
	return crowd.Order{Proto: proto, Clients: clients, Server: netip.AddrPortFrom(netip.MustParseAddr(peers.NetbootServer), port),
		File: peers.NetbootName, Like: filepath.Join(n.dir, peers.NetbootFile), From: netip.MustParseAddr("10.80.1.1"), PerAddr: crowdPerAddr}
}

// crowd has this program play the clients on the first host. One that gets
// less than all is a failure of the server, not a figure.
func (n *netbootRun) crowd(ctx context.Context, o crowd.Order) (got crowd.Result, err error) {
	o.Limit = crowdLimit
	order, err := json.Marshal(o)
	if err != nil {
		return got, err
	}
	self, err := os.Executable()
	if err != nil {
		return got, fmt.Errorf("find this program: %w", err)
	}
	p, err := n.room.Start(ctx, 1, lab.Command{Prog: self, Env: []string{crowd.Env + "=" + string(order)}, Limit: crowdLimit + 30*time.Second})
	if err != nil {
		return got, err
	}
	if err := p.Wait(); err != nil {
		return got, err
	}
	if err := json.Unmarshal([]byte(strings.TrimSpace(p.Output())), &got); err != nil {
		return got, fmt.Errorf("result of the crowd %q: %w", p.Output(), err)
	}
	if got.Failed > 0 {
		return got, fmt.Errorf("%d of %d failed, the first because: %s", got.Failed, o.Clients, got.Cause)
	}
	return got, nil
}
