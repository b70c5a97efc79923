// Package join is a node's side of the control connection: it finds golden,
// registers, hears orders and sends reports, and takes part in one transfer.
// What is done with the pieces, and with the disks, is its callers' business.
//
//	Find ─▶ Register ─▶ Session ─┬─ orders  ◀── golden
//	                             ├─ Report  ──▶ golden
//	                             └─ Receive: chain.Link between the neighbours
package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Times.
const (
	registerLimit = 15 * time.Second
	findLimit     = 2 * time.Second
	renewLimit    = 6 * time.Second
	renewEvery    = time.Second
	twiceLimit    = 15 * time.Second // for golden to see that our machine's earlier life is over
	cutWait       = 10 * time.Second // for a golden that has left us behind, and may have ended
	GoldenQuiet   = 5 * time.Second  // silence after which the connection is made anew, and failures after which golden is lost
	firstOrder    = 3 * time.Second  // from asking for orders to the first: golden sends one a second
	beatEvery     = time.Second      // golden hears from us at least so often
)

// Config says who this node is and whom it looks for.
type Config struct {
	Server   string // host or host:port; empty: ask the network
	Session  string
	Token    string
	PinFile  string    // golden's key
	Pin      trust.Pin // the same, where it is known
	KeyFile  string    // keeps this node's own key from stage 1 to stage 2; empty: none is kept
	Stage    string    // wire.Stage1, …
	MAC      string
	Hostname string
	UUID     string
	NodeID   int    // of the boot line
	Card     string // what this node calls its interface
	DataPort int    // 0: wire.DataPort, or any other when that is taken
	Disks    []wire.Device
	Holds    bool          // some of what golden sends may be here already
	Wait     time.Duration // for a golden that is lost; 0: DefaultWait
	Say      func(string)  // tells a person what becomes of the session; nil: the log
	Log      *slog.Logger

	Replication string // the boot line's last word; empty: none
}

// maxForeign bounds the time for golden nodes that are not ours, in findLimits,
// and how many of them are named.
const maxForeign = 5

// DefaultWait is how long a node waits for a golden that is lost.
const DefaultWait = 10 * time.Minute

// DefaultSession is the session's name where nobody gave one.
const DefaultSession = "kamethod"

// ErrNoServer is wrapped when no golden node answers, or none that is ours or
// has anything for this machine yet: it is worth to look again.
var ErrNoServer = errors.New("no golden node answers")

// Find tells where golden is: as configured, or who answers a broadcast. There
// may be several golden nodes on a network, also by chance with sessions of one
// name: ours is the one with the key.
func Find(ctx context.Context, c Config) (string, error) {
	if c.Server != "" {
		return withPort(c.Server), nil
	}
	return broadcast(ctx, c)
}

func withPort(server string) string {
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), strconv.Itoa(wire.ControlPort))
}

// broadcast asks the local networks who serves the session.
func broadcast(ctx context.Context, c Config) (string, error) {
	pc, err := net.ListenPacket("udp4", ":0") // Go sets SO_BROADCAST on every UDP socket
	if err != nil {
		return "", fmt.Errorf("look for the golden node: %w", err)
	}
	defer pc.Close()
	stop := context.AfterFunc(ctx, func() { pc.Close() })
	defer stop()
	for _, to := range broadcastAddrs() {
		pc.WriteTo(wire.FindRequest(c.Session), &net.UDPAddr{IP: to, Port: wire.ControlPort})
	}
	end := time.Now().Add(maxForeign * findLimit)
	pc.SetReadDeadline(time.Now().Add(findLimit))
	b := make([]byte, 1024)
	asked := map[string]bool{}
	var foreign []string // of other golden nodes
	mute := ""           // there was no speaking to it: registering tells why
	for {
		n, from, err := pc.ReadFrom(b)
		switch {
		case err != nil && mute != "" && ctx.Err() == nil:
			return mute, nil
		case err != nil && len(foreign) > 0 && ctx.Err() == nil:
			return "", fmt.Errorf("%w to a broadcast for session %q but %s: the image or pin is of another golden node", ErrNoServer, c.Session, strings.Join(foreign, ", "))
		case err != nil:
			return "", fmt.Errorf("%w to a broadcast for session %q", ErrNoServer, c.Session)
		}
		name, port, ok := wire.ParseHere(b[:n])
		if !ok || name != c.Session {
			continue
		}
		server := net.JoinHostPort(from.(*net.UDPAddr).IP.String(), strconv.Itoa(port))
		if asked[server] {
			continue
		}
		asked[server] = true
		switch err := c.greet(ctx, server); {
		case err == nil:
			return server, nil
		case errors.As(err, new(*trust.ForeignKeyError)) && len(foreign) == maxForeign:
		case errors.As(err, new(*trust.ForeignKeyError)):
			foreign = append(foreign, fmt.Sprintf("%s (%v)", server, err))
		case mute == "":
			mute = server
		}
		if more := time.Now().Add(findLimit); more.Before(end) { // that took time of the others
			pc.SetReadDeadline(more)
		}
	}
}

// greet sees whether a golden node can be spoken to, and has the key that we
// know.
func (c Config) greet(ctx context.Context, server string) error {
	pin, err := c.pin()
	if err != nil {
		return err
	}
	id, err := trust.New()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	d := tls.Dialer{Config: trust.ClientConfig(id, pin)}
	conn, err := d.DialContext(ctx, "tcp", server)
	if err == nil {
		conn.Close()
	}
	return err
}

// pin is golden's key.
func (c Config) pin() (trust.Pin, error) {
	if c.Pin.IsZero() {
		return trust.ReadPin(c.PinFile)
	}
	return c.Pin, nil
}

// broadcastAddrs are the directed broadcast addresses of all interfaces that
// are up: 255.255.255.255 leaves by the default route's only.
func broadcastAddrs() []net.IP {
	out := []net.IP{net.IPv4bcast}
	list, _ := net.Interfaces()
	for _, i := range list {
		if i.Flags&(net.FlagUp|net.FlagBroadcast) != net.FlagUp|net.FlagBroadcast {
			continue
		}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok || n.IP.To4() == nil {
				continue
			}
			b := bytes.Clone(n.IP.To4())
			for j := range b {
				b[j] |= ^n.Mask[len(n.Mask)-4+j]
			}
			out = append(out, b)
		}
	}
	return out
}

// Register finds golden and makes this node known to it.
func Register(ctx context.Context, c Config) (*Session, error) {
	if c.Session == "" {
		c.Session = DefaultSession
	}
	pin, err := c.pin()
	if err != nil {
		return nil, err
	}
	id, err := identity(c.KeyFile)
	if err != nil {
		return nil, err
	}
	server, err := Find(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.MAC == "" {
		c.MAC = cardTowards(server)
	}
	ln, err := listen(c.DataPort)
	if err != nil {
		return nil, err
	}
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	if c.Say == nil {
		c.Say = func(line string) { c.Log.Warn(line) }
	}
	s := &Session{Config: c, Server: server, identity: id, ln: ln, client: client(id, pin), holds: c.Holds}
	if err := s.registerPatiently(ctx); err != nil {
		ln.Close()
		return nil, err
	}
	s.start(ctx)
	return s, nil
}

// cardTowards is the address of the network card by which golden is reached:
// golden knows this machine again by it. Empty where there is none.
func cardTowards(server string) string {
	c, err := net.Dial("udp", server) // sends nothing
	if err != nil {
		return ""
	}
	defer c.Close()
	self := c.LocalAddr().(*net.UDPAddr).IP
	list, _ := net.Interfaces()
	for _, i := range list {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(self) {
				return i.HardwareAddr.String()
			}
		}
	}
	return ""
}

// registerPatiently gives golden the time to see that this machine's earlier
// life has ended, as after a reset.
func (s *Session) registerPatiently(ctx context.Context) error {
	for until := time.Now().Add(twiceLimit); ; {
		err := s.register(ctx, registerLimit, nil)
		if !errors.Is(err, ErrTwice) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(renewEvery):
		}
	}
}

// identity is the key that stage 1 left, or a new one.
func identity(file string) (*trust.Identity, error) {
	if file != "" {
		if id, err := trust.Load(file); !errors.Is(err, os.ErrNotExist) {
			return id, err
		}
	}
	id, err := trust.New()
	if err == nil && file != "" {
		err = id.Save(file)
	}
	return id, err
}

// listen takes the data port, or any where that one is taken by another
// receiver on this machine.
func listen(port int) (net.Listener, error) {
	if port != 0 {
		return net.Listen("tcp", fmt.Sprintf(":%d", port))
	}
	ln, err := net.Listen("tcp", fmt.Sprintf(":%d", wire.DataPort))
	if err != nil {
		ln, err = net.Listen("tcp", ":0")
	}
	return ln, err
}

// client makes HTTPS requests to golden and to nobody else.
func client(id *trust.Identity, pin trust.Pin) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:       trust.ClientConfig(id, pin),
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 0, // reports are answered when they end
		MaxIdleConnsPerHost:   2,
	}}
}

func (s *Session) register(ctx context.Context, limit time.Duration, resume *wire.Resume) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s.mu.Lock()
	port, holds := s.ln.Addr().(*net.TCPAddr).Port, s.holds
	s.mu.Unlock()
	body, err := json.Marshal(wire.Register{
		Version: wire.Version, Session: s.Session, Token: s.Token, Stage: s.Stage,
		DataPort: port, Queue: queueFor(memory()), Holds: holds, Resume: resume,
		Hostname: s.Hostname, MAC: s.MAC, UUID: s.UUID, NodeID: s.NodeID, Card: s.Card, Firmware: Firmware(), Memory: memory(), Disks: s.Disks,
		Replication: s.Replication,
	})
	if err != nil {
		return fmt.Errorf("encode registration: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url(wire.RegisterPath), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("register with %s: %w", s.Server, err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		var foreign *trust.ForeignKeyError
		if errors.As(err, &foreign) {
			return fmt.Errorf("register with %s: %w: the image or pin is of another golden node", s.Server, foreign)
		}
		return fmt.Errorf("%w at %s: %w", ErrNoServer, s.Server, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("register with %s: %w", s.Server, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		return fmt.Errorf("%w: golden node %s: %s", ErrTwice, s.Server, strings.TrimSpace(string(b)))
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s: %s", ErrNoServer, s.Server, strings.TrimSpace(string(b)))
	default:
		return fmt.Errorf("%w: %s: %s", ErrRefused, s.Server, strings.TrimSpace(string(b)))
	}
	var got wire.Registered
	if err := json.Unmarshal(b, &got); err != nil {
		return fmt.Errorf("read golden's answer: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registered = got
	return nil
}

func (s *Session) url(path string) string { return "https://" + s.Server + path }

// queueFor is how many pieces may wait for the disk: a sixteenth of memory,
// and no more than the chain's own limit.
func queueFor(mem int64) int {
	return int(min(chain.DefaultQueue, max(8, mem/16/wire.PieceSize)))
}

// ringFor is the memory for replay.
func ringFor(mem int64) int { return int(min(chain.DefaultRing, max(16<<20, mem/16))) }
