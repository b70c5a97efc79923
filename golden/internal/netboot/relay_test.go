package netboot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// behindRelay adds a network behind a real DHCP relay, and a machine there:
//
//	srv br0 10.77.0.1 --- 10.77.0.9 relay 10.79.0.2 --- eth0 machine
func (l *lab) behindRelay(mac string) (machine string) {
	l.t.Helper()
	relay := l.host("52:54:00:77:fe:01", "10.77.0.9/24")
	machine = fmt.Sprintf("%s-far", l.srv)
	l.addNS(machine)
	l.ip(relay, "link add far type veth peer name eth0 netns "+machine)
	l.ip(relay, "addr add 10.79.0.2/24 brd + dev far")
	l.ip(relay, "link set far up")
	l.ip(machine, "link set lo up")
	l.ip(machine, "link set eth0 address "+mac)
	l.ip(machine, "link set eth0 up")
	l.mustRun(relay, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	l.ip(l.srv, "route add 10.79.0.0/24 via 10.77.0.9")
	// -a: with option 82, and it drops answers that lack it.
	r := l.start(relay, nil, "dhcrelay", "-4", "-d", "-a", "-m", "discard", "-id", "far", "-iu", "eth0", "-pf", filepath.Join(l.tmp, "dhcrelay.pid"), "10.77.0.1")
	r.mustSee("Sending on   Socket/fallback", 30*time.Second)
	return machine
}

func TestByARelay(t *testing.T) {
	needs(t, "busybox", "dhcrelay", "curl")
	l := newLab(t)
	c := l.behindRelay(macA)
	srv := l.ready(serveSpec{DHCP: DHCPFull, Subnets: []string{"10.79.0.0/24,10.79.0.100-10.79.0.109,10.79.0.2"},
		Fixed: map[string]netipAddr{macB: addr("10.79.0.50")}, Names: map[string]string{macB: "far50"}})
	base := []string{"busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", l.write("udhcpc.sh", udhcpcScript)}
	out := l.mustRun(c, append(base, "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-O", "bootfile")...)
	for want, got := range map[string]string{"10.77.0.1": field(out, "serverid="), "10.79.0.2": field(out, "router="), "pxelinux.0": field(out, "boot_file=")} {
		if got != want {
			t.Errorf("want %s, got %q in\n%s", want, got, out)
		}
	}
	ip := field(out, "ip=")
	if !strings.HasPrefix(ip, "10.79.0.10") {
		t.Errorf("address %q is not of the relay's network", ip)
	}
	// The machine fetches its files through the router, and is known by its
	// lease, not taken for the router.
	l.ip(c, "route add default via 10.79.0.2")
	l.answers("* silent", macA+" image")
	if text := l.mustRun(c, "curl", "-sSf", "-m", "10", "tftp://10.77.0.1/pxelinux.cfg/default"); !strings.Contains(text, "DEFAULT kamethod") {
		t.Errorf("configuration of a machine behind a router:\n%s", text)
	}
	// It renews its lease without the relay.
	if _, err := l.in(c, "ip", "addr", "flush", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	l.ip(c, "link set eth0 down")
	l.ip(c, "link set eth0 address "+macB)
	l.ip(c, "link set eth0 up")
	out = l.mustRun(c, append(base, "-O", "hostname")...)
	if field(out, "ip=") != "10.79.0.50" || field(out, "hostname=") != "far50" {
		t.Errorf("fixed address and name by a relay:\n%s", out)
	}
	if strings.Contains(srv.output(), "panic") {
		t.Error(srv.output())
	}
}

// TestProxyByARelay: the relay sends each request to two servers, one that
// leases and ours.
func TestProxyByARelay(t *testing.T) {
	needs(t, "busybox", "dhcrelay", "tcpdump", "curl")
	l := newLab(t)
	c := l.behindRelay(macA)
	srv := l.ready(serveSpec{DHCP: DHCPProxy, Subnets: []string{"10.79.0.0/24"}})
	base := []string{"busybox", "udhcpc", "-f", "-n", "-q", "-t", "2", "-T", "1", "-i", "eth0", "-s", "/bin/true"}
	_, _ = l.in(c, append(base, "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000")...) // no leases here: it fails
	srv.mustSee("EVENT "+macA+" invalid IP [offer] pxelinux.0", 30*time.Second)
	// What comes through arrives at the machine.
	dump := l.start(c, nil, "tcpdump", "-l", "-n", "-i", "eth0", "-vv", "udp", "dst", "port", "68")
	dump.mustSee("listening on", 30*time.Second)
	_, _ = l.in(c, append(base, "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000")...)
	dump.mustSee("file \"pxelinux.0\"", 30*time.Second)
	n := strings.Count(srv.output(), "[offer]")
	_, _ = l.in(c, base...)
	if strings.Count(srv.output(), "[offer]") != n || strings.Contains(srv.output(), "[address") {
		t.Errorf("an ordinary machine was answered:\n%s", srv.output())
	}
	l.ip(c, "addr add 10.79.0.7/24 dev eth0")
	l.ip(c, "route add default via 10.79.0.2")
	if out := l.mustRun(c, "curl", "-sSf", "-o", "/dev/null", "-w", "%{size_download}", "-m", "10", "tftp://10.77.0.1/pxelinux.0"); out != "42000" {
		t.Errorf("TFTP from behind the router: %s bytes", out)
	}
}

// TestNotForOtherNetworks: the sockets are bound to an address, which the
// kernel also gives to who comes by another interface.
func TestNotForOtherNetworks(t *testing.T) {
	needs(t, "curl")
	l := newLab(t)
	other := fmt.Sprintf("%s-oth", l.srv)
	l.addNS(other)
	l.ip(l.srv, "link add oth type veth peer name eth0 netns "+other)
	l.ip(l.srv, "addr add 10.88.0.1/24 dev oth")
	l.ip(l.srv, "link set oth up")
	l.ip(other, "addr add 10.88.0.2/24 dev eth0")
	l.ip(other, "link set eth0 up")
	l.ip(other, "route add default via 10.88.0.1")
	l.ready(serveSpec{DHCP: DHCPOff})
	for _, url := range []string{"tftp://10.77.0.1/pxelinux.0", "http://10.77.0.1:8069/pxelinux.0"} {
		if out, err := l.in(other, "curl", "-sSf", "-m", "5", "-o", "/dev/null", url); err == nil {
			t.Errorf("%s was given to another network: %s", url, out)
		}
		// This machine itself may ask, as golden-serve doctor does.
		if out := l.mustRun(l.srv, "curl", "-sSf", "-m", "10", "-o", "/dev/null", "-w", "%{size_download}", url); out != "42000" {
			t.Errorf("%s on the golden node itself: %s bytes", url, out)
		}
	}
}

// TestLeasesOutliveKill: what a machine has heard is in the file, however the
// server ended.
func TestLeasesOutliveKill(t *testing.T) {
	needs(t, "busybox")
	l := newLab(t)
	c := l.host(macA, "")
	lf := filepath.Join(l.tmp, "leases")
	script := l.write("udhcpc.sh", udhcpcScript)
	lease := func(mac string) string {
		for _, args := range []string{"addr flush dev eth0", "link set eth0 down", "link set eth0 address " + mac, "link set eth0 up"} {
			l.ip(c, args)
		}
		out := l.mustRun(c, "busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", script)
		return field(out, "ip=")
	}
	spec := serveSpec{DHCP: DHCPFull, LeaseFile: lf, From: addr("10.77.0.100"), To: addr("10.77.0.120"), Force: true}
	srv := l.ready(spec)
	had := map[string]string{}
	for i := range 5 {
		mac := fmt.Sprintf("52:54:00:77:01:%02x", i)
		had[mac] = lease(mac)
	}
	if err := srv.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-srv.ended
	b, err := os.ReadFile(lf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lf, append(b, `{"mac":"52:54:00:77:01:0`...), 0o644); err != nil { // in the middle of a line
		t.Fatal(err)
	}
	for mac, ip := range had {
		if !strings.Contains(string(b), mac+`","ip":"`+ip+`"`) {
			t.Errorf("%s had %s, not in the file:\n%s", mac, ip, b)
		}
	}
	l.ready(spec)
	if ip := lease("52:54:00:77:01:99"); ip == "" || mapHas(had, ip) {
		t.Errorf("a new machine got %q, which another has: %v", ip, had)
	}
	for mac, ip := range had {
		if got := lease(mac); got != ip {
			t.Errorf("%s had %s, has %s after the restart", mac, ip, got)
		}
	}
}

func mapHas(m map[string]string, value string) bool {
	for _, v := range m {
		if v == value {
			return true
		}
	}
	return false
}

// TestFullDisk: leases go on, and are in the file once there is room again.
func TestFullDisk(t *testing.T) {
	needs(t, "busybox")
	l := newLab(t)
	c := l.host(macA, "")
	disk := filepath.Join(l.tmp, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	// "ip netns exec" gives each program a mount namespace of its own, so the
	// server mounts it by itself: see serveSpec.Tmpfs.
	lf := filepath.Join(disk, "leases")
	srv := l.ready(serveSpec{DHCP: DHCPFull, LeaseFile: lf, Tmpfs: disk, Force: true})
	inside := filepath.Join("/proc", fmt.Sprint(srv.cmd.Process.Pid), "root", disk)
	fill, err := os.Create(filepath.Join(inside, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = fill.Write(make([]byte, size))
		}
	}
	// What is left of the last page of the lease file takes a few leases.
	script := l.write("udhcpc.sh", udhcpcScript)
	macs := 0
	lease := func() {
		macs++
		for _, args := range []string{"addr flush dev eth0", "link set eth0 down", fmt.Sprintf("link set eth0 address 52:54:00:77:02:%02x", macs), "link set eth0 up"} {
			l.ip(c, args)
		}
		l.mustRun(c, "busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", script)
	}
	for lease(); !strings.Contains(srv.output(), "lease not kept"); lease() {
		if macs > 100 {
			t.Fatal("the disk never got full")
		}
	}
	lease()
	if err := os.Remove(fill.Name()); err != nil {
		t.Fatal(err)
	}
	_ = fill.Close()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(inside, "leases"))
		if err == nil && strings.Count(string(b), "\n") == macs && strings.Contains(string(b), fmt.Sprintf("52:54:00:77:02:%02x", macs)) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("want %d leases, have\n%s%v", macs, b, err)
		}
	}
}
