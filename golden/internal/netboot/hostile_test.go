package netboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNS runs f on a thread inside a namespace. The thread is thrown away.
func (l *lab) inNS(ns string, f func() error) {
	l.t.Helper()
	if err := within(ns, f); err != nil {
		l.t.Fatal(err)
	}
}

// within is inNS for a goroutine that isn't the test's.
func within(ns string, f func() error) error {
	res := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		fd, err := unix.Open(filepath.Join("/run/netns", ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		}
		if err == nil {
			err = f()
		}
		res <- err
	}()
	select {
	case err := <-res:
		return err
	case <-time.After(5 * time.Minute):
		return errors.New("no end after five minutes")
	}
}

// rrq makes a TFTP read request.
func rrq(name string, opts ...string) []byte {
	b := append([]byte{0, 1}, name+"\x00octet\x00"...)
	for _, o := range opts {
		b = append(append(b, o...), 0)
	}
	return b
}

// exchange sends a datagram and gathers what comes back.
func exchange(c *net.UDPConn, b []byte, port uint16, d time.Duration) (answers [][]byte, err error) {
	if _, err := c.WriteToUDP(b, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: int(port)}); err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return nil, err
	}
	for buf := make([]byte, 65536); ; {
		n, _, err := c.ReadFromUDP(buf)
		if err != nil {
			return answers, nil // the time is up
		}
		answers = append(answers, bytes.Clone(buf[:n]))
	}
}

func TestRepeatedRequestsAndFlood(t *testing.T) {
	needs(t, "curl")
	l := newLab(t)
	c := l.host(macA, "10.77.0.10/24")
	srv := l.ready(serveSpec{DHCP: DHCPOff})
	l.inNS(c, func() error {
		u, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer func() { _ = u.Close() }()
		start := time.Now()
		var got [][]byte
		for try := 0; try < 5 || len(got) == 0 && time.Since(start) < 20*time.Second; try++ {
			wait := time.Millisecond
			if try >= 4 {
				wait = 700 * time.Millisecond
			}
			more, err := exchange(u, rrq("pxelinux.0"), tftpPort, wait)
			if err != nil {
				return err
			}
			got = append(got, more...)
		}
		// One transfer that nobody acknowledges: its block at once, and again
		// every 250 ms at most, not five times.
		if most := int(time.Since(start)/tftpTimeout) + 2; len(got) == 0 || len(got) > most {
			return fmt.Errorf("%d packets for equal requests, want 1 to %d", len(got), most)
		}
		for _, g := range got {
			if binary.BigEndian.Uint16(g) != 3 {
				return fmt.Errorf("packet %q, want data only", g[:min(len(g), 20)])
			}
		}
		for i := range 5000 { // over the caps, from one address
			if _, err := u.WriteToUDP(rrq(fmt.Sprintf("pxelinux.0%s", strings.Repeat("/", i%40))), &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: tftpPort}); err != nil {
				return err
			}
		}
		return nil
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		n := openFiles(t, srv)
		if n <= 4*gcAfterDrops {
			break
		}
		if time.Now().After(end) {
			t.Errorf("%d open files after the flood", n)
			break
		}
	}
	other := l.host(macB, "10.77.0.11/24")
	if out := l.mustRun(other, "curl", "-sSf", "-o", "/dev/null", "-w", "%{size_download}", "-m", "10", "tftp://10.77.0.1/pxelinux.0"); out != "42000" {
		t.Errorf("another machine got %s bytes", out)
	}
}

func TestSlowHTTPClient(t *testing.T) {
	l := newLab(t)
	c := l.host(macA, "10.77.0.10/24")
	l.ready(serveSpec{DHCP: DHCPOff})
	l.inNS(c, func() error {
		k, err := net.DialTimeout("tcp4", "10.77.0.1:8069", 5*time.Second)
		if err != nil {
			return err
		}
		defer func() { _ = k.Close() }()
		if _, err := k.Write([]byte("GET /pxelinux.0 HTTP/1.1\r\nHost: x\r\n")); err != nil {
			return err
		}
		start := time.Now()
		if err := k.SetReadDeadline(start.Add(time.Minute)); err != nil {
			return err
		}
		_, err = k.Read(make([]byte, 1))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("an unfinished request was kept for %v", time.Since(start))
		}
		return nil
	})
}

func TestInterfaceMadeAnew(t *testing.T) {
	needs(t, "busybox", "curl")
	l := newLab(t)
	c := l.host(macA, "")
	srv := l.ready(serveSpec{DHCP: DHCPFull})
	for _, args := range []string{"link del br0", "link add br0 type bridge", "addr add 10.77.0.1/24 brd + dev br0", "link set br0 up", "link set v1 master br0"} {
		l.ip(l.srv, args)
	}
	srv.mustSee("service stopped, starts again", 30*time.Second)
	out := l.mustRun(c, "busybox", "udhcpc", "-f", "-n", "-q", "-t", "30", "-T", "1", "-i", "eth0", "-s", l.write("s.sh", udhcpcScript))
	if field(out, "serverid=") != "10.77.0.1" {
		t.Errorf("no lease after the interface came back:\n%s", out)
	}
	for _, url := range []string{"tftp://10.77.0.1/pxelinux.0", "http://10.77.0.1:8069/pxelinux.0"} {
		if out := l.mustRun(c, "curl", "-sSf", "-m", "60", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", "-o", "/dev/null", "-w", "%{size_download}", url); !strings.HasSuffix(out, "42000") {
			t.Errorf("%s: %s", url, out)
		}
	}
}

func TestInterfaceDownAndUp(t *testing.T) {
	needs(t, "busybox")
	l := newLab(t)
	c := l.host(macA, "")
	srv := l.ready(serveSpec{DHCP: DHCPProxy})
	l.ip(l.srv, "link set br0 down")
	srv.mustSee("service stopped, starts again", 30*time.Second)
	l.ip(l.srv, "link set br0 up")
	// Nobody gives leases here; our offer without an address makes udhcpc fail.
	for range 10 {
		_, _ = l.in(c, "busybox", "udhcpc", "-f", "-n", "-q", "-t", "2", "-T", "1", "-i", "eth0", "-s", "/bin/true", "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000")
		if srv.saw("[offer] pxelinux.0", 0) {
			return
		}
	}
	t.Error("no offer after the interface was up again")
}

func TestProbe(t *testing.T) {
	needs(t, "dnsmasq")
	l := newLab(t)
	other := l.host(macA, "10.77.0.3/24")
	probe := func() (s string) {
		l.inNS(other, func() error {
			eth0, err := openLink("eth0", netip.Prefix{})
			if err != nil {
				return err
			}
			got, err := eth0.probe(t.Context(), 3500*time.Millisecond, 0)
			s = fmt.Sprint(got)
			return err
		})
		return s
	}
	if got := probe(); got != "[]" {
		t.Errorf("an empty network: %s", got)
	}
	l.ready(serveSpec{DHCP: DHCPFull})
	l.dnsmasq(l.host(macB, "10.77.0.2/24"), "eth0")
	// dnsmasq pings an address for 3 s before its first offer, and this
	// machine may be a slow one.
	var got string
	for range 5 {
		if got = probe(); strings.Contains(got, "10.77.0.1") && strings.Contains(got, "10.77.0.2") {
			return
		}
	}
	t.Errorf("two servers: %s", got)
}
