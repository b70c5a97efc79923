package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkPoll is how often we look whether the interface is still the one that
// the sockets are bound to.
const linkPoll = time.Second

// Server answers on one interface.
type Server struct {
	// config
	cfg  Config
	link *link

	// sockets, opened by New, opened again after a failure
	dhcp *dhcpSockets
	boot *net.UDPConn // port 4011
	tftp *net.UDPConn
	http net.Listener

	// state
	plan      plan
	leases    *leaseTable // full mode only
	noAddress rarely      // log messages
	noFile    rarely
	chosen    rarely
	refused   rarely
	seen      *seenTable
	events    chan Event
	ready     chan struct{}
	caps      *transferCaps
}

// New checks the configuration and binds every socket, so that what is
// wrong is known before anybody waits for a node.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	l, err := openLink(cfg.Interface, cfg.Addr)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, link: l, seen: newSeenTable(), events: make(chan Event, eventQueue),
		ready: make(chan struct{}), caps: newTransferCaps()}
	if s.plan, err = cfg.plan(l.self); err != nil {
		return nil, err
	}
	if cfg.DHCP == DHCPFull {
		s.leases = newLeaseTable(s.plan, cfg.LeaseTime)
	}
	for _, name := range NeededFiles(cfg.Files.Has) {
		if !cfg.Files.Has(name) {
			cfg.Log.Warn("boot file missing: machines will not boot (make image makes it)", "name", name)
		}
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if cfg.DHCP == DHCPFull && cfg.LeaseFile != "" {
		if err := s.leases.load(cfg.LeaseFile, time.Now(), cfg.Log); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Server) open() (err error) {
	if s.cfg.DHCP != DHCPOff {
		if s.dhcp, err = s.openDHCP(); err != nil {
			return err
		}
	}
	if s.cfg.DHCP == DHCPProxy {
		if s.boot, err = s.link.listenUDP(proxyPort); err != nil {
			return err
		}
	}
	if s.tftp, err = s.link.listenUDP(tftpPort); err != nil {
		return err
	}
	if s.cfg.HTTPPort > 0 {
		s.http, err = s.link.listenTCP(s.cfg.HTTPPort)
	}
	return err
}

// Close gives the sockets of a server back that was never served.
func (s *Server) Close() error {
	var errs []error
	if s.dhcp != nil {
		errs = append(errs, s.dhcp.close())
	}
	for _, c := range []*net.UDPConn{s.boot, s.tftp} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if s.http != nil {
		errs = append(errs, s.http.Close())
	}
	if s.leases != nil {
		errs = append(errs, s.leases.close())
	}
	return errors.Join(errs...)
}

// Addr is our address on the interface.
func (s *Server) Addr() netip.Prefix { return s.link.self }

// Ready is closed when requests are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Serve answers until ctx ends, then returns nil. In full mode it first
// listens whether another server answers, and refuses with an
// *OtherServerError if one does, unless Config.Force is set.
func (s *Server) Serve(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.refuseSecond(ctx); err != nil {
		if ctx.Err() != nil {
			return s.Close()
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	run := func(name string, serve func(context.Context, bool) error) {
		wg.Go(func() { s.supervise(ctx, name, serve) })
	}
	if s.cfg.Event != nil {
		wg.Go(func() { s.deliver(ctx) })
	}
	wg.Go(func() { s.link.watchOwn(ctx, s.cfg.Log) })
	if s.leases != nil && s.leases.file != nil {
		wg.Go(func() { s.leases.keep(ctx, s.cfg.Log) })
	}
	if s.dhcp != nil {
		run("dhcp", s.runDHCP)
	}
	if s.boot != nil {
		run("pxe boot server", s.runBootServer)
	}
	run("tftp", s.runTFTP)
	if s.http != nil {
		run("http", s.runHTTP)
	}
	s.cfg.Log.Info("netboot serves", "interface", s.cfg.Interface, "addr", s.link.self, "dhcp", s.cfg.DHCP,
		"http_port", s.cfg.HTTPPort, "files", len(s.cfg.Files))
	close(s.ready)
	<-ctx.Done()
	wg.Wait()
	if s.leases != nil {
		return s.leases.close()
	}
	return nil
}

// supervise runs one service and starts it again with new sockets when it
// fails, as it does when its interface goes away for a moment.
func (s *Server) supervise(ctx context.Context, name string, serve func(context.Context, bool) error) {
	wait := 100 * time.Millisecond
	for again := false; ; again = true {
		start := time.Now()
		err := func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			sctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go s.watchLink(sctx, cancel)
			return serve(sctx, again)
		}()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("interface was made anew") // the only other end, see watchLink
		}
		if time.Since(start) > 10*time.Second {
			wait = 100 * time.Millisecond
		}
		s.cfg.Log.Warn("service stopped, starts again", "service", name, "in", wait, "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// watchLink ends a service when the interface was made anew under the same
// name: sockets stay bound to the old one and would wait for ever.
func (s *Server) watchLink(ctx context.Context, end context.CancelFunc) {
	ifi, err := net.InterfaceByName(s.cfg.Interface)
	if err != nil {
		end() // opened a moment ago and gone
		return
	}
	tick := time.NewTicker(linkPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, err := net.InterfaceByName(s.cfg.Interface); err == nil && now.Index != ifi.Index {
			end()
			return
		}
	}
}

func (s *Server) runDHCP(ctx context.Context, again bool) (err error) {
	if again {
		if err := ignoreClosed(s.dhcp.close()); err != nil {
			return err
		}
		d, err := s.openDHCP()
		if err != nil {
			return err
		}
		s.dhcp = d
	}
	return s.serveDHCP(ctx, s.dhcp)
}

func (s *Server) runBootServer(ctx context.Context, again bool) (err error) {
	if again {
		_ = s.boot.Close() // failed already
		c, err := s.link.listenUDP(proxyPort)
		if err != nil {
			return err
		}
		s.boot = c
	}
	return s.serveBootServer(ctx, s.boot)
}

func (s *Server) runTFTP(ctx context.Context, again bool) (err error) {
	if again {
		_ = s.tftp.Close() // failed already
		c, err := s.link.listenUDP(tftpPort)
		if err != nil {
			return err
		}
		s.tftp = c
	}
	return s.serveTFTP(ctx, s.tftp)
}

func (s *Server) runHTTP(ctx context.Context, again bool) (err error) {
	if again {
		_ = s.http.Close() // failed already
		ln, err := s.link.listenTCP(s.cfg.HTTPPort)
		if err != nil {
			return err
		}
		s.http = ln
	}
	err = s.serveHTTP(ctx, s.http)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// guard keeps one bad request from ending the server.
func (s *Server) guard(what string, f func() error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("panic while answering", "service", what, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if err := f(); err != nil && !errors.Is(err, errNotOurs) {
		s.cfg.Log.Debug("request not answered", "service", what, "err", err)
	}
}

// decide asks the caller what a machine is told that has our boot loader, or
// fetches it, and wants its configuration.
func (s *Server) decide(c Client) Answer {
	c.Loading = true
	return s.decideOffer(c)
}

// decideOffer asks the caller whether a machine is offered our boot loader,
// but never about this machine. A panic in there is Silent: nobody gets an
// image by accident.
func (s *Server) decideOffer(c Client) (a Answer) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("panic while deciding", "mac", c.MAC, "panic", p, "stack", string(debug.Stack()))
			a = Silent
		}
	}()
	if len(c.MAC) == 6 && s.link.own.Load().macs[[6]byte(c.MAC)] {
		return Silent
	}
	if isDoctor(c.MAC) {
		return LocalBoot // no machine: it must not take one's place
	}
	return s.cfg.Decide(c)
}

// mayAsk says whether TFTP, HTTP and port 4011 are for an address: of our
// network, of one behind a relay, or this machine itself. The sockets are
// bound to our address, which the kernel also gives to who comes by another
// interface.
func (s *Server) mayAsk(a netip.Addr) bool {
	a = a.Unmap()
	return s.plan.of(a) != nil || s.link.own.Load().ips[a]
}

// clientByIP finds out which machine has an address: by our own lease, else
// as the kernel's neighbour table says, which knows every machine that
// talks to us on this link. For one behind a router it would name the router.
func (s *Server) clientByIP(ip netip.Addr) Client {
	if s.leases != nil {
		if mac, ok := s.leases.holder(ip); ok {
			return s.withIP(mac[:], ip)
		}
	}
	if !s.link.self.Contains(ip) || ip == s.link.self.Addr() {
		return Client{IP: ip}
	}
	neighs, err := netlink.NeighList(int(s.link.index.Load()), unix.AF_INET)
	if err != nil {
		s.cfg.Log.Debug("read neighbour table", "err", err)
	}
	for _, n := range neighs {
		if a, ok := netip.AddrFromSlice(n.IP.To4()); ok && a == ip && len(n.HardwareAddr) == 6 {
			return s.withIP(n.HardwareAddr, ip)
		}
	}
	return Client{IP: ip}
}

func (s *Server) withIP(mac net.HardwareAddr, ip netip.Addr) Client {
	c := s.seen.get(append(net.HardwareAddr(nil), mac...))
	c.IP = ip
	return c
}
