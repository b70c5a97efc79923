package doctor

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// alone runs f in a network namespace of its own, in which eth0 has 10.77.0.1,
// and eth1 is the other end of its cable.
func alone(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with us, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		for _, args := range []string{"link set lo up", "link add eth0 type veth peer name eth1", "addr add 10.77.0.1/24 brd + dev eth0", "link set eth0 up", "link set eth1 up"} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v\n%s", args, err, out)
				return
			}
		}
		f()
	}()
	<-done
}

// A service that needs 3.5 s for its answer is slow, and not dead.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	alone(t, func() {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		s, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: 4011})
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		go func() { // ends when s is closed
			b := make([]byte, 100)
			_, from, err := s.ReadFromUDP(b)
			if err == nil {
				time.Sleep(3500 * time.Millisecond)
				_, _ = s.WriteToUDP([]byte("late"), from) // that is what is looked for
			}
		}()
		e := newExam(Config{})
		e.ifi, e.self = ifi, netip.MustParsePrefix("10.77.0.1/24")
		c, err := e.newClient()
		if err != nil || c.tap == nil {
			t.Errorf("client: %v", err)
			return
		}
		defer c.close()
		if err := c.at(netip.MustParseAddr("10.77.0.100")); err != nil {
			t.Error(err)
			return
		}
		got, err := c.exchange(t.Context(), c.next(), 4011, []byte("early"), func(f frame) bool { return string(f.payload) == "late" })
		if got != answered || err != nil {
			t.Errorf("outcome %v, %v; want an answer", got, err)
		}
	})
}

// What has come until the end is in the story, also where this process got no
// time to read it before.
func TestLateReader(t *testing.T) {
	t.Parallel()
	alone(t, func() {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		e := newExam(Config{})
		e.ifi = ifi
		l, err := e.listen()
		if err != nil {
			t.Error(err)
			return
		}
		out, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		// A new interface drops what it is given, without a word, until the
		// kernel has seen its carrier (net/core/link_watch.c).
		const n = 100
		frame := udpFrame(nodeMAC, srvMAC, ap(node, 2000), ap(server, 69), []byte("\x00\x01file\x00octet\x00"))
		for came, end := uint32(0), time.Now().Add(time.Minute); came < n && time.Now().Before(end); {
			if _, err := out.WriteTo(frame, &packet.Addr{HardwareAddr: srvMAC[:]}); err != nil {
				t.Error(err)
				return
			}
			st, err := l.main.Stats()
			if err != nil {
				t.Error(err)
				return
			}
			if came += st.Packets; st.Packets == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l.last = -time.Second // over before the first frame was read
		l.run(ctx, time.Minute)
		if m := l.watch.machines[nodeMAC]; m == nil || len(m.steps) < n {
			t.Errorf("heard %d frames of %d: %+v", l.watch.frames, n, m)
		}
	})
}

// A golden-serve that gets no time for a while is slow, and not broken.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	g := l.golden("full")
	for i := 1; ; i++ {
		if err := g.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		d := l.startDoctor("--dhcp", "full", "--watch", "0")
		d.mustSay("asking")
		time.Sleep(askTime + time.Second/2)
		if err := g.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		select {
		case <-d.ended:
		case <-time.After(4 * time.Minute):
			t.Fatalf("the doctor doesn't end:\n%s", d.said())
		}
		r := d.report()
		if _, ok := r.find("service.dhcp", OK, "BIOS"); ok {
			return
		}
		t.Logf("visit %d:\n%s", i, r.all())
		if i == visits {
			t.Fatal("golden-serve, which is slow, is taken for one that doesn't answer")
		}
	}
}

// Who ends the doctor early isn't told of errors that it didn't find.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "10.77.0.9/24")
	l.golden("proxy")
	d := l.startDoctor("--dhcp", "proxy", "--watch", "10m")
	d.mustSay("asking")
	r := d.interrupt()
	r.mustFind(t, "service.untried", Note, "ended")
	r.mustNotFind(t, "dhcp.none", Error)
	r.mustNotFind(t, "service.dhcp", Error)
	r.mustNotFind(t, "service.tftp", Error)
}
