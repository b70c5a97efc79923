package siteconf

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"
)

// lab is two hosts, each a network namespace: one for the real servers, one
// for machines that ask them.
//
//	srv: eth0 10.77.0.1/24 --- cli: eth0
type lab struct {
	t             *testing.T
	srv, cli, dir string
}

func newLab(t *testing.T, programs ...string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	for _, p := range append(programs, "ip") {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%v: scripts/setup.sh installs it", err)
		}
	}
	dir, err := os.MkdirTemp("", "siteconf-") // t.TempDir is root's alone, and in.tftpd isn't root
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
	l := &lab{t: t, srv: "sc" + id, cli: "sd" + id, dir: dir}
	for _, ns := range []string{l.srv, l.cli} {
		l.ip("netns", "add", ns)
		t.Cleanup(func() {
			// xinetd's servers have sessions of their own.
			pids, _ := exec.Command("ip", "netns", "pids", ns).Output()
			for _, p := range strings.Fields(string(pids)) {
				if n, err := strconv.Atoi(p); err == nil && n != os.Getpid() { // inside may have had our first thread
					syscall.Kill(n, syscall.SIGKILL)
				}
			}
			exec.Command("ip", "netns", "del", ns).Run()
		})
		l.ip("-n", ns, "link", "set", "lo", "up")
	}
	l.ip("-n", l.srv, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", l.cli)
	l.ip("-n", l.srv, "addr", "add", "10.77.0.1/24", "brd", "+", "dev", "eth0")
	l.ip("-n", l.cli, "addr", "add", "10.77.0.2/24", "brd", "+", "dev", "eth0")
	for _, ns := range []string{l.srv, l.cli} {
		l.ip("-n", ns, "link", "set", "eth0", "up")
	}
	return l
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// write puts a file into the lab's folder.
func (l *lab) write(name string, text []byte) string {
	l.t.Helper()
	file := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		l.t.Fatal(err)
	}
	return file
}

// check has a program look at its configuration.
func (l *lab) check(want string, args ...string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", l.srv}, args...)...)
	c.Env = l.env()
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		l.t.Errorf("%s: %v, want %q:\n%s", strings.Join(args, " "), err, want, out)
	}
}

// env has Kea keep its files here.
func (l *lab) env() []string {
	return append(os.Environ(), "KEA_PIDFILE_DIR="+l.dir, "KEA_LOCKFILE_DIR="+l.dir, "KEA_LOGGER_DESTINATION=stdout")
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a server until the test ends.
func (l *lab) start(args ...string) *output {
	l.t.Helper()
	return l.startIn(l.srv, args...)
}

func (l *lab) startIn(ns string, args ...string) *output {
	l.t.Helper()
	out := &output{}
	c := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	c.Env, c.Stdout, c.Stderr = l.env(), out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // no Pdeathsig: the threads of inside die
	c.WaitDelay = 5 * time.Second                       // a server of its own session may hold the pipe
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { c.Wait(); close(done) }()
	l.t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		<-done
		if l.t.Failed() {
			l.t.Logf("%s:\n%s", args[0], out)
		}
	})
	return out
}

// inside runs f with its thread in the machines' namespace.
func (l *lab) inside(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		ns, err := os.Open("/run/netns/" + l.cli)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// ask is what firmware asks, and what it is offered. A server that isn't up
// yet is asked again.
func (l *lab) ask(mac, class, user string, arch byte) (*dhcpv4.DHCPv4, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return nil, err
	}
	var c *nclient4.Client
	err = l.inside(func() error {
		c, err = nclient4.New("eth0", nclient4.WithHWAddr(hw), nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(15))
		return err
	})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	return c.DiscoverOffer(ctx, asIPXE(user), dhcpv4.WithBroadcast(true), dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0, arch}),
		dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 0}),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, make([]byte, 17)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionHostName, dhcpv4.OptionBootfileName, dhcpv4.OptionTFTPServerName, dhcpv4.OptionVendorSpecificInformation,
			dhcpv4.OptionClassIdentifier, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionSubnetMask))
}

// asIPXE adds what iPXE says of itself, if that is the user class.
func asIPXE(user string) dhcpv4.Modifier {
	return func(m *dhcpv4.DHCPv4) {
		if user != "" {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation, []byte(user)))
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(175), []byte{1, 1, 0}))
		}
	}
}

// bootServer asks at port 4011, as firmware does that has its address.
func (l *lab) bootServer(mac, class, user string, arch byte, number []byte) (*dhcpv4.DHCPv4, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return nil, err
	}
	var pc net.PacketConn
	if err := l.inside(func() error { pc, err = net.ListenPacket("udp4", "10.77.0.2:68"); return err }); err != nil {
		return nil, err
	}
	defer pc.Close()
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(hw), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(net.IPv4(10, 77, 0, 2)),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)), dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0, arch}),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, make([]byte, 17)))
	if err != nil {
		return nil, err
	}
	asIPXE(user)(m)
	if len(number) == 2 {
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{71, 4, number[0], number[1], 0, 0, 255}))
	}
	for range 15 {
		if _, err := pc.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: 4011}); err != nil {
			return nil, err
		}
		b := make([]byte, 1500)
		pc.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, _, err := pc.ReadFrom(b)
		if err != nil {
			continue
		}
		r, err := dhcpv4.FromBytes(b[:n])
		if err == nil && r.TransactionID == m.TransactionID {
			return r, nil
		}
	}
	return nil, fmt.Errorf("port 4011 doesn't answer %s", class)
}

// fetch gets a file by TFTP as a machine would.
func (l *lab) fetch(name string) (string, error) {
	file := filepath.Join(l.dir, "fetched")
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", "netns", "exec", l.cli, "busybox", "tftp", "-g", "-r", name, "-l", file, "10.77.0.1").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	b, err := os.ReadFile(file)
	return string(b), err
}
