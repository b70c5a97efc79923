package nic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
)

// job is what the test binary does when it runs itself inside a namespace.
type job struct {
	Up       Config
	Keep     time.Duration // then keep the lease this long
	Age      time.Duration // as if it had been granted that long before
	Flood    string        // or: send malformed packets on this interface
	FloodFor time.Duration
}

// result is what it prints.
type result struct {
	Lease   *Lease
	Renewed int
	Took    time.Duration
	Addrs   []string // as the kernel has them
	Route   string
	Err     string
}

func TestMain(m *testing.M) {
	text := os.Getenv("KAMETHOD_NIC_JOB")
	if text == "" {
		os.Exit(m.Run())
	}
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	if j.Flood != "" {
		if err := flood(j.Flood, j.FloodFor); err != nil {
			panic(err)
		}
		return
	}
	if err := json.NewEncoder(os.Stdout).Encode(j.do()); err != nil {
		panic(err)
	}
}

func (j job) do() (r result) {
	j.Up.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	start := time.Now()
	var err error
	r.Lease, err = Up(context.Background(), j.Up)
	r.Took = time.Since(start)
	if err != nil {
		r.Err = err.Error()
		return r
	}
	if j.Keep > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), j.Keep)
		defer cancel()
		r.Lease.Acquired = r.Lease.Acquired.Add(-j.Age)
		Keep(ctx, r.Lease, "", j.Up.Log, func(*Lease) { r.Renewed++ })
	}
	dev, err := netlink.LinkByName(r.Lease.Interface)
	if err != nil {
		r.Err = err.Error()
		return r
	}
	addrs, _ := netlink.AddrList(dev, netlink.FAMILY_V4)
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, a.IPNet.String()+" brd "+a.Broadcast.String())
	}
	routes, _ := netlink.RouteGet(net.IP{192, 0, 2, 1})
	if len(routes) > 0 {
		r.Route = routes[0].Gw.String()
	}
	return r
}

// flood sends UDP packets to port 68 whose lengths are wrong in several ways.
func flood(ifName string, d time.Duration) error {
	ifc, err := net.InterfaceByName(ifName)
	if err != nil {
		return err
	}
	c, err := packet.Listen(ifc, packet.Datagram, 0x0800, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	ip := func(total, udpLen byte, extra int) []byte {
		b := []byte{0x45, 0, 0, total, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 1, 255, 255, 255, 255}
		b = append(b, 0, 67, 0, 68, 0, udpLen, 0, 0)
		return append(b, make([]byte, extra)...)
	}
	bad := [][]byte{ip(20, 0, 0), ip(24, 4, 0), ip(27, 7, 20), ip(28, 8, 0), ip(255, 235, 3), ip(28, 255, 0), ip(28, 8, 0)[:22], {0x4f}, {0x45, 0}}
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		for _, p := range bad {
			if _, err := c.WriteTo(p, &packet.Addr{HardwareAddr: net.HardwareAddr{255, 255, 255, 255, 255, 255}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// lab is a server's and a node's namespace with two cables between them:
// eth0-s0 and eth1-s1.
type lab struct {
	t            *testing.T
	server, node string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, tool := range []string{"ip", "dnsmasq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s isn't installed", tool)
		}
	}
	l := &lab{t: t, server: fmt.Sprintf("kanic-s%d", os.Getpid()), node: fmt.Sprintf("kanic-n%d", os.Getpid())}
	for _, ns := range []string{l.server, l.node} {
		l.run("netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	}
	for i, mac := range []string{"52:54:00:77:00:01", "52:54:00:77:00:02"} {
		l.run("-n", l.server, "link", "add", fmt.Sprintf("s%d", i), "type", "veth",
			"peer", "name", fmt.Sprintf("eth%d", i), "address", mac, "netns", l.node)
	}
	return l
}

func (l *lab) run(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// serve starts dnsmasq on one of the server's interfaces.
func (l *lab) serve(ifName string, more ...string) (log func() string) {
	l.t.Helper()
	l.run("-n", l.server, "addr", "add", "10.77.0.1/24", "brd", "+", "dev", ifName)
	l.run("-n", l.server, "link", "set", ifName, "up")
	dir := l.t.TempDir()
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer out.Close()
	args := append([]string{
		"netns", "exec", l.server, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0",
		"--interface=" + ifName, "--bind-interfaces", "--dhcp-range=10.77.0.100,10.77.0.110,255.255.255.0,1h", "--log-dhcp", "--log-facility=-",
		"--dhcp-leasefile=" + filepath.Join(dir, "leases"), "--user=root", "--dhcp-authoritative", "--no-ping", "--pid-file=",
	}, more...)
	cmd := exec.Command("ip", args...) // ip execs: the child is dnsmasq itself
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	log = func() string {
		b, _ := os.ReadFile(out.Name())
		return string(b)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(log(), "DHCP, sockets bound"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("dnsmasq doesn't serve:\n%s", log())
		}
	}
	return log
}

func (l *lab) command(ns string, j job) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	text, err := json.Marshal(j)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	l.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", ns, self)
	cmd.Env = append(os.Environ(), "KAMETHOD_NIC_JOB="+string(text))
	return cmd
}

// node runs the job in the node's namespace.
func (l *lab) do(j job) (r result) {
	l.t.Helper()
	var errText bytes.Buffer
	cmd := l.command(l.node, j)
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("in the node: %v\n%s", err, errText.String())
	}
	if err := json.Unmarshal(out, &r); err != nil {
		l.t.Fatalf("in the node: %v: %q", err, out)
	}
	l.t.Logf("took %v\n%s", r.Took, errText.String())
	return r
}

func TestUpAuto(t *testing.T) {
	l := newLab(t)
	l.run("-n", l.server, "link", "set", "s0", "up") // a link, but nobody who answers
	l.serve("s1", "--dhcp-option=option:dns-server,10.77.0.3", "--dhcp-option=option:domain-name,lab", "--dhcp-option=option:router,10.77.0.254", "--dhcp-boot=pxelinux.0,golden,10.77.0.9")
	conf := filepath.Join(t.TempDir(), "etc/resolv.conf")
	r := l.do(job{Up: Config{Interface: "auto", ResolvConf: conf}})
	if r.Err != "" {
		t.Fatal(r.Err)
	}
	if r.Lease.Interface != "eth1" || r.Lease.MAC != "52:54:00:77:00:02" || r.Lease.ServerID.String() != "10.77.0.1" || r.Lease.NextServer.String() != "10.77.0.9" {
		t.Errorf("lease %+v", r.Lease)
	}
	if want := r.Lease.Addr.String() + " brd 10.77.0.255"; len(r.Addrs) != 1 || r.Addrs[0] != want {
		t.Errorf("addresses %v, want %s", r.Addrs, want)
	}
	if r.Route != "10.77.0.254" {
		t.Errorf("default route by %q", r.Route)
	}
	b, err := os.ReadFile(conf)
	if err != nil || string(b) != "search lab\nnameserver 10.77.0.3\n" {
		t.Errorf("resolv.conf %q, %v", b, err)
	}
}

// With BOOTIF the other interface isn't touched, though its server is quicker.
func TestUpBootIF(t *testing.T) {
	l := newLab(t)
	l.run("-n", l.server, "link", "set", "s0", "up")
	l.serve("s1")
	r := l.do(job{Up: Config{Interface: "eth0", BootIF: net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 2}}})
	if r.Err != "" || r.Lease.Interface != "eth1" {
		t.Errorf("%+v", r)
	}
	if r.Took > 2*time.Second {
		t.Errorf("took %v", r.Took)
	}
}

func TestUpNoCable(t *testing.T) {
	l := newLab(t)
	r := l.do(job{Up: Config{Interface: "eth0", Carrier: 500 * time.Millisecond}})
	if !strings.Contains(r.Err, "no link after 500ms on eth0 52:54:00:77:00:01: is the cable plugged in?") {
		t.Errorf("got %q", r.Err)
	}
	r = l.do(job{Up: Config{Interface: "eth5", Appear: 300 * time.Millisecond}})
	if !strings.Contains(r.Err, "no such network interface: eth5") {
		t.Errorf("got %q", r.Err)
	}
}

func TestUpNoServer(t *testing.T) {
	l := newLab(t)
	l.run("-n", l.server, "link", "set", "s0", "up")
	r := l.do(job{Up: Config{Interface: "eth0", Timeout: 2 * time.Second}})
	if !strings.Contains(r.Err, "get a lease on eth0 52:54:00:77:00:01 within 2s") || r.Took > 4*time.Second {
		t.Errorf("got %q after %v", r.Err, r.Took)
	}
}

// Packets with impossible lengths on the wire must neither end the node nor
// keep it from its lease.
func TestUpUnderMalformedPackets(t *testing.T) {
	l := newLab(t)
	l.run("-n", l.server, "link", "set", "s0", "up")
	l.run("-n", l.node, "link", "set", "eth0", "up")
	cmd := l.command(l.server, job{Flood: "s0", FloodFor: 4 * time.Second})
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	time.Sleep(500 * time.Millisecond)
	l.serve("s0")
	r := l.do(job{Up: Config{Interface: "eth0"}})
	if r.Err != "" || r.Lease.Interface != "eth0" {
		t.Errorf("%+v", r)
	}
}

// A lease of an hour that is 30 minutes old is renewed by its server; one that
// is 53 minutes old by anybody. The address stays as it is.
func TestKeep(t *testing.T) {
	for _, tt := range []struct {
		name      string
		age       time.Duration
		discovers bool // asking anybody starts with one
	}{
		{"renew", 30*time.Minute - time.Second, false},
		{"rebind", 53 * time.Minute, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			log := l.serve("s0")
			r := l.do(job{Up: Config{Interface: "eth0"}, Keep: 3 * time.Second, Age: tt.age})
			text := log()
			if r.Err != "" || r.Renewed != 1 || len(r.Addrs) != 1 {
				t.Fatalf("%+v\n%s", r, text)
			}
			ack := "DHCPACK(s0) " + r.Lease.Addr.Addr().String()
			_, after, _ := strings.Cut(text, ack)
			if !strings.Contains(after, ack) {
				t.Errorf("no second acknowledgement:\n%s", text)
			}
			if got := strings.Contains(after, "DHCPDISCOVER(s0)"); got != tt.discovers || strings.Contains(text, "DHCPNAK") {
				t.Errorf("discover after the lease: %v, want %v:\n%s", got, tt.discovers, text)
			}
		})
	}
}
