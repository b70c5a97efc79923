package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"
)

// askers is where the test binary finds the network cards that it is to look
// for a boot server with, when it runs on the host.
const askers = "GOLDEN_SERVE_TEST_ASKERS"

// TestAskForBootServer is the host's part of TestProxyDisturbsNobody: it prints
// who was offered one. The last one that asks is waited for.
func TestAskForBootServer(t *testing.T) {
	macs := strings.Fields(os.Getenv(askers))
	if len(macs) == 0 {
		t.Skip("a part of TestProxyDisturbsNobody")
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.BindToDevice(int(fd), "eth0"))
		}), err)
	}}
	pc, err := lc.ListenPacket(t.Context(), "udp4", ":68")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	last := macs[len(macs)-1]
	for tries := range 20 { // packets may be lost on a busy machine
		for _, mac := range macs {
			if tries > 0 && mac != last {
				continue
			}
			hw, err := net.ParseMAC(mac)
			if err != nil {
				t.Fatal(err)
			}
			m, err := dhcpv4.NewDiscovery(hw, dhcpv4.WithBroadcast(true), dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")),
				dhcpv4.WithOption(dhcpv4.OptClientArch(iana.INTEL_X86PC)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pc.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
				t.Fatal(err)
			}
		}
		if heard(t, pc, last) {
			return
		}
	}
}

// heard prints who gets an offer, for a second after the last one has.
func heard(t *testing.T, pc net.PacketConn, last string) (found bool) {
	b := make([]byte, 1500)
	for end := time.Now().Add(time.Second); ; {
		pc.SetReadDeadline(end)
		n, _, err := pc.ReadFrom(b)
		if err != nil {
			return found
		}
		if m, err := dhcpv4.FromBytes(b[:n]); err == nil && m.OpCode == dhcpv4.OpcodeBootReply {
			t.Logf("offered %s", m.ClientHWAddr)
			if m.ClientHWAddr.String() == last && !found {
				found, end = true, time.Now().Add(time.Second)
			}
		}
	}
}

// offered is who of these machines is offered golden's boot loader.
func (o *office) offered(macs ...string) []string {
	o.t.Helper()
	c := exec.Command("ip", "netns", "exec", o.host, os.Args[0], "-test.run=^TestAskForBootServer$", "-test.v", "-test.timeout=2m")
	c.Env = append(os.Environ(), askers+"="+strings.Join(macs, " "))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	if err != nil {
		o.t.Fatalf("ask for a boot server: %v\n%s", err, out)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if _, mac, ok := strings.Cut(strings.TrimSpace(line), "offered "); ok && !slices.Contains(list, mac) {
			list = append(list, mac)
		}
	}
	slices.Sort(list)
	return list
}

func strangers(n int) []string {
	var out []string
	for i := range n {
		out = append(out, net.HardwareAddr{0x52, 0x55, 0, 0, byte(i >> 8), byte(i)}.String())
	}
	return out
}

// Beside other servers, golden is heard by the machines of its session only:
// by those that were named; by those that are armed, as soon as so many are as
// were asked for; and never by itself.
func TestProxyDisturbsNobody(t *testing.T) {
	o := newOffice(t)
	const one, two = "52:54:00:00:00:01", "52:54:00:00:00:02"
	out, err := exec.Command("ip", "netns", "exec", o.golden, "cat", "/sys/class/net/eth0/address").Output()
	if err != nil {
		t.Fatal(err)
	}
	own := strings.TrimSpace(string(out))
	want := func(what string, got []string, macs ...string) {
		t.Helper()
		if !slices.Equal(got, macs) {
			t.Errorf("%s: %d machines are offered a boot server, %q; want %q", what, len(got), got[:min(len(got), 5)], macs)
		}
	}
	if err := os.WriteFile(filepath.Join(o.dir, "macs"), []byte(one+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _ := o.clone("--dhcp", "proxy", "--macs", "macs")
	want("a named machine", o.offered(append(strangers(1000), own, two, one)...), one)
	o.run(0, "arm", two)
	want("and an armed one", o.offered(own, one, two), one, two)
	o.run(0, "disarm", one)
	want("and a disarmed one", o.offered(own, one, two), two)
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	_, log := o.clone("--dhcp", "proxy", "-n", "1")
	if !strings.Contains(log.String(), "whoever they are") {
		t.Error("no warning that whoever comes is armed")
	}
	want("there is room", o.offered(own, one, two), one, two)
	o.wantImage(two, true) // it came first with our boot loader
	want("there is none", o.offered(append(strangers(1000), own, one, two)...), two)
}
