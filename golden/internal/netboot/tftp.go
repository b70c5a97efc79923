package netboot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pin/tftp/v3"
	"golang.org/x/net/ipv4"
)

const (
	tftpPort      = 69                     // RFC 1350
	tftpTimeout   = 250 * time.Millisecond // pin/tftp waits 5 s by default: a lost packet would cost that
	tftpRetries   = 20                     // with tftpBackoff a silent client is given up after 12 s
	tftpBlock     = 1468                   // Ethernet's 1500 less IP and UDP headers and 4 bytes of TFTP
	tftpOverhead  = 32                     // what that takes off another MTU
	transferTime  = 15 * time.Minute       // a client that takes one block now and then still ends
	maxPerAddress = 4                      // transfers at once; firmware has one, GRUB two
	maxTransfers  = 512                    // transfers at once in all
	readAhead     = 16 << 10               // per transfer; the file itself is in the page cache
	requestQueue  = 4 << 20                // bytes of requests that wait: 1,000 machines ask in one moment
	gcAfterDrops  = 128                    // see dropped
	gcPause       = 20 * time.Millisecond  // the collector is called so much later, and not twice until then
)

// transferCaps counts the transfers that run.
type transferCaps struct {
	mu      sync.Mutex
	running map[transfer]bool
	perIP   map[netip.Addr]int
	drops   int

	collecting bool
}

// transfer is one client socket that reads one file. A second request of
// the same is a retransmission.
type transfer struct {
	to   netip.AddrPort
	name string
}

func newTransferCaps() *transferCaps {
	return &transferCaps{running: map[transfer]bool{}, perIP: map[netip.Addr]int{}}
}

// begin says whether a transfer may run.
func (t *transferCaps) begin(x transfer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ip := x.to.Addr()
	if t.running[x] || t.perIP[ip] >= maxPerAddress || len(t.running) >= maxTransfers {
		t.dropped()
		return false
	}
	t.running[x] = true
	t.perIP[ip]++
	return true
}

// dropped bounds the open sockets. A request that must not be answered at
// all (an error packet would end the client's running transfer) leaves its
// socket to the garbage collector, because pin/tftp closes it with the
// answer only; in a flood we don't wait for the collector to come by itself,
// but the flood doesn't have us collect all the time either.
func (t *transferCaps) dropped() {
	if t.drops++; t.drops < gcAfterDrops || t.collecting {
		return
	}
	t.drops, t.collecting = 0, true
	time.AfterFunc(gcPause, func() {
		runtime.GC()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.collecting = false
	})
}

func (t *transferCaps) end(x transfer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, x)
	ip := x.to.Addr()
	if t.perIP[ip]--; t.perIP[ip] == 0 {
		delete(t.perIP, ip)
	}
}

// tftpBackoff is the wait before a packet is sent again, besides
// tftpTimeout.
func tftpBackoff(attempt int) time.Duration {
	return min(time.Duration(attempt)*50*time.Millisecond, 500*time.Millisecond)
}

// serveTFTP serves read requests until the socket fails or ctx ends. Each
// transfer has a socket of its own: the library's single port mode can be
// crashed by a request. Write requests it refuses itself.
func (s *Server) serveTFTP(ctx context.Context, c *net.UDPConn) error {
	// Armed before Serve does it, so that no early request misses its
	// interface and falls back to blocks of 512 bytes.
	if err := ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true); err != nil {
		return fmt.Errorf("ask for addresses of TFTP packets: %w", err)
	}
	if err := enlarge(c, requestQueue); err != nil {
		s.cfg.Log.Debug("queue for TFTP requests stays small", "err", err)
	}
	srv := tftp.NewServer(func(name string, rf io.ReaderFrom) error { return s.readTFTP(ctx, name, rf) }, nil)
	srv.SetTimeout(tftpTimeout)
	srv.SetRetries(tftpRetries)
	srv.SetBackoff(tftpBackoff)
	srv.SetBlockSize(min(tftpBlock, s.link.mtu-tftpOverhead))
	stop := context.AfterFunc(ctx, srv.Shutdown)
	defer stop()
	err := srv.Serve(c)
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(errors.New("tftp server ended"), err)
}

// readTFTP answers one read request, in a goroutine of the library, hence
// the recover here.
func (s *Server) readTFTP(ctx context.Context, name string, rf io.ReaderFrom) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("panic while answering", "service", "tftp", "panic", p, "stack", string(debug.Stack()))
			err = errors.New("server error")
		}
	}()
	peer, ok := rf.(tftp.OutgoingTransfer)
	if !ok {
		return errors.New("BUG: transfer without an address")
	}
	ra := peer.RemoteAddr()
	to := ra.AddrPort()
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if !s.mayAsk(to.Addr()) {
		return errNotServed
	}
	x := transfer{to: to, name: name}
	if ctx.Err() != nil || !s.caps.begin(x) {
		return nil // says nothing; a real client asks again
	}
	defer s.caps.end(x)
	f, err := s.lookup(name, to.Addr())
	if err != nil {
		return s.notFound("TFTP", name, to.Addr(), err)
	}
	defer func() { _ = f.content.Close() }() // was only read
	peer.SetSize(f.size)
	r := &transferReader{ctx: ctx, until: time.Now().Add(transferTime), r: f.content}
	n, err := rf.ReadFrom(bufio.NewReaderSize(r, readAhead))
	if err != nil && strings.Contains(err.Error(), "code=8") {
		return nil // UEFI asks for the size only, then ends with error 8 (RFC 2347)
	}
	s.sent("TFTP", f, to.Addr(), n, err)
	return nil // the library has told the client
}

// transferReader ends a transfer with its context or its time.
type transferReader struct {
	ctx   context.Context
	until time.Time
	r     io.Reader
}

func (t *transferReader) Read(p []byte) (int, error) {
	if err := t.ctx.Err(); err != nil {
		return 0, err
	}
	if time.Now().After(t.until) {
		return 0, fmt.Errorf("transfer took longer than %v", transferTime)
	}
	return t.r.Read(p)
}

// notFound reports a request that got nothing. The reply doesn't repeat the
// name, and says the same for "not on the list" and "can't be opened".
func (s *Server) notFound(proto, name string, from netip.Addr, err error) error {
	name = strconv.Quote(name[:min(len(name), maxName)])
	if errors.Is(err, errNotServed) {
		s.cfg.Log.Debug("not served", "protocol", proto, "name", name, "ip", from)
	} else {
		s.cfg.Log.Error("boot file", "protocol", proto, "name", name, "ip", from, "err", err)
	}
	s.emit(Event{MAC: s.clientByIP(from).MAC, IP: from, What: "not found (" + proto + ")", Name: name, Err: err})
	return errNotServed
}

// sent reports a transfer that has ended.
func (s *Server) sent(proto string, f *served, to netip.Addr, n int64, err error) {
	what := "sent " + path.Base(f.name) + " (" + proto + ")"
	if f.config {
		what = "sent boot configuration (" + proto + ")"
	}
	if err != nil {
		what = "broke off: " + what
		s.cfg.Log.Warn("transfer broke off", "protocol", proto, "name", f.name, "mac", f.client.MAC, "ip", to, "bytes", n, "err", err)
	} else {
		s.cfg.Log.Info("sent", "protocol", proto, "name", f.name, "mac", f.client.MAC, "ip", to, "bytes", n)
	}
	s.emit(Event{MAC: f.client.MAC, IP: to, What: what, Name: f.name, Bytes: n, Err: err, Config: f.config && !f.onward, Answer: f.answer})
}
