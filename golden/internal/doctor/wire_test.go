package doctor

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// udhcpc starts a real DHCP client that says it is firmware.
func (l *lab) udhcpc(ns, class, arch string, more ...string) string {
	l.t.Helper()
	needs(l.t, "busybox")
	// The client has to take the address, or nobody can be asked for files.
	l.write("bound", []byte("#!/bin/sh\n[ \"$1\" = bound ] && ip addr replace $ip/24 dev $interface\nexit 0\n"))
	l.run("chmod", "755", l.path("bound"))
	args := []string{"busybox", "udhcpc", "-f", "-n", "-q", "-t", "8", "-T", "1", "-i", "eth0", "-s", l.path("bound"), "-V", class, "-O", "bootfile", "-O", "tftp"}
	if arch != "" {
		args = append(args, "-x", "0x5d:"+arch)
	}
	return l.in(ns, append(args, more...)...)
}

const bios = "PXEClient:Arch:00000:UNDI:002001"

// The story of one machine, in order, and what golden-serve makes of it.
func TestStory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node, other := l.host("br0", ""), l.host("br0", "10.77.0.9/24")
	l.golden("full")
	d := l.watching("--dhcp", "full", "--node", "52:54:00:77:00:01")
	l.udhcpc(node, bios, "0000")
	for _, name := range []string{"lpxelinux.0", "pxelinux.cfg/01-52-54-00-77-00-01", "gone.c32"} {
		l.in(node, "busybox", "tftp", "-g", "-r", name, "-l", "/dev/null", "10.77.0.1")
	}
	l.in(node, "curl", "-s", "-m", "30", "-o", "/dev/null", "http://10.77.0.1:8069/images/all.rdz")
	l.in(other, "busybox", "tftp", "-g", "-r", "not-its-own", "-l", "/dev/null", "10.77.0.1")
	d.mustSay("is sent /images/all.rdz")
	r := d.interrupt()
	if r.Node != "52:54:00:77:00:01" {
		t.Errorf("the story of %q", r.Node)
	}
	at := 0
	for _, want := range []string{"asks for an address and a boot file (" + bios + ", BIOS (0))", "is offered the address 10.77.0.", "takes the address 10.77.0.",
		"gets the address 10.77.0.", "for lpxelinux.0 (TFTP)", "is sent lpxelinux.0", "for pxelinux.cfg/01-52-54-00-77-00-01", "is sent pxelinux.cfg/01",
		"for gone.c32 (TFTP)", "doesn't get gone.c32: TFTP error 1", "/images/all.rdz (HTTP GET)", "is sent /images/all.rdz"} {
		for at < len(r.Story) && !strings.Contains(r.Story[at].What, want) {
			at++
		}
		if at == len(r.Story) {
			t.Fatalf("the story has no %q, or not there:\n%s", want, r.all())
		}
	}
	if strings.Contains(r.all(), "not-its-own") {
		t.Errorf("the story is also of another machine:\n%s", r.all())
	}
	r.mustFind(t, "wire.missing", Error, `"gone.c32"`)
	if r.State == "" || strings.Contains(r.State, "has ended") { // also where the doctor was interrupted
		t.Errorf("state %q of the machine, which golden-serve knows:\n%s", r.State, r.all())
	}
}

// A boot loader that looks for its configuration under many names, and finds
// one, is in no trouble; a file that is missing is named.
func TestMissingFile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "10.77.0.9/24")
	l.golden("full")
	d := l.watching("--dhcp", "full")
	for _, name := range []string{"pxelinux.cfg/0A4D0009", "pxelinux.cfg/0A4D00", "pxelinux.cfg/default", "vesamenu.c32"} {
		l.in(node, "busybox", "tftp", "-g", "-r", name, "-l", "/dev/null", "10.77.0.1")
	}
	l.in(node, "curl", "-s", "-m", "30", "-o", "/dev/null", "http://10.77.0.1:8069/nowhere/kernel")
	r := d.interrupt()
	r.mustFind(t, "wire.missing", Error, `"vesamenu.c32"`)
	r.mustFind(t, "wire.missing", Error, `"nowhere/kernel"`)
	for _, f := range r.Findings {
		if f.ID == "wire.missing" && strings.Contains(f.What, "pxelinux.cfg") {
			t.Errorf("a look-up is taken for a fault: %s", f.What)
		}
	}
}

func TestUnknownArchitecture(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	l.golden("full")
	d := l.watching("--dhcp", "full")
	l.udhcpc(node, "PXEClient:Arch:00011:UNDI:003000", "000b")
	d.interrupt().mustFind(t, "wire.arch", Error, "UEFI arm64 (11)")
}

// The switch swallows the offers: asked, offered, never taken.
func TestOfferThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	l.golden("full")
	d := l.watching("--dhcp", "full")
	l.nft(node, `table netdev t { chain c { type filter hook ingress device eth0 priority 0; udp dport 68 drop; }; }`)
	out := l.udhcpc(node, bios, "0000")
	time.Sleep(patience + time.Second)
	r := d.interrupt()
	if strings.Contains(out, "lease of") {
		t.Fatalf("the client has heard the offer:\n%s", out)
	}
	r.mustFind(t, "wire.norequest", Error, "52:54:00:77:00:01")
}

// A machine that takes its address and then asks nobody for a file.
func TestNoFetch(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	l.golden("full")
	d := l.watching("--dhcp", "full")
	l.udhcpc(node, bios, "0000")
	time.Sleep(patience + time.Second)
	d.interrupt().mustFind(t, "wire.nofetch", Error, "52:54:00:77:00:01")
}

// Nobody answers a machine that boots.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	d := l.watching()
	l.udhcpc(node, bios, "0000")
	d.interrupt().mustFind(t, "wire.noaddress", Error, "52:54:00:77:00:01")
}

// Beside dnsmasq without golden-serve: an address, but no boot file.
func TestAddressButNoFile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	l.dnsmasq(l.host("br0", "10.77.0.2/24"), pool)
	d := l.watching()
	l.udhcpc(node, bios, "0000")
	d.interrupt().mustFind(t, "wire.nofile", Warning, "52:54:00:77:00:01")
}

// A machine asks again and again.
func TestAgainAndAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	l.golden("full")
	d := l.watching("--dhcp", "full")
	for range 2 * manyTimes {
		l.udhcpc(node, bios, "0000")
		l.in(node, "busybox", "tftp", "-g", "-r", "lpxelinux.0", "-l", "/dev/null", "10.77.0.1")
	}
	d.interrupt().mustFind(t, "wire.again", Warning, "52:54:00:77:00:01")
}

// A server on the wire that isn't golden-serve.
func TestServerOnTheWire(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	l.dnsmasq(l.host("br0", "10.77.0.2/24"), pool, "--dhcp-boot=other.0")
	d := l.watching()
	l.udhcpc(node, bios, "0000")
	d.interrupt().mustFind(t, "wire.server", Warning, "other.0")
}

// Beside --dhcp full a machine takes the address of another server.
func TestAddressOfAnother(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	l.dnsmasq(l.host("br0", "10.77.0.2/24"), pool)
	d := l.watching("--dhcp", "full")
	l.udhcpc(node, bios, "0000")
	d.interrupt().mustFind(t, "wire.server", Error, "10.77.0.2")
}

// The cable is in the other socket.
func TestWrongInterface(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	for _, args := range []string{"link add br1 type bridge", "addr add 10.78.0.1/24 dev br1", "link set br1 up"} {
		l.ip(l.srv, args)
	}
	node := l.host("br1", "")
	d := l.watching("--interface", "br0")
	l.udhcpc(node, bios, "0000")
	r := d.interrupt()
	r.mustFind(t, "wire.interface", Error, "br1")
	for _, f := range r.Findings {
		if f.ID == "wire.interface" && !strings.Contains(f.What, "br1") {
			t.Errorf("a port of the bridge is taken for another network: %+v", f)
		}
	}
}

// Both networks are served: a machine on the other one is in no wrong place.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	for _, args := range []string{"link add br1 type bridge", "addr add 10.78.0.1/24 brd + dev br1", "link set br1 up"} {
		l.ip(l.srv, args)
	}
	node := l.host("br1", "")
	l.golden("full", "--interface", "br0,br1")
	d := l.watching("--dhcp", "full", "--interface", "br0")
	if out := l.udhcpc(node, bios, "0000"); !strings.Contains(out, "lease of 10.78.0.") {
		t.Fatalf("no lease:\n%s", out)
	}
	d.mustSay("asked every service")
	r := d.interrupt()
	r.mustNotFind(t, "wire.interface", Error)
	r.mustFind(t, "service.dhcp", OK, "BIOS")
}

// Firmware that needs no boot file has its kernel, or is of no architecture.
func TestUBoot(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "")
	for _, c := range []struct {
		kernel bool
		want   int
	}{{false, 1}, {true, 0}} {
		if c.kernel {
			l.write("images/tftp/images/arm64/vmlinuz", []byte("kernel"))
			l.write("images/tftp/images/arm64/all.rdz", []byte("stage 1"))
		}
		g := l.golden("full", "--fresh")
		d := l.watching("--dhcp", "full")
		l.udhcpc(node, "PXEClient:Arch:00022:UNDI:003000", "0016")
		r := d.interrupt()
		g.stop(syscall.SIGTERM)
		got := 0
		for _, f := range r.Findings {
			if f.ID == "wire.arch" || f.ID == "wire.nofile" {
				got++
			}
		}
		if got != c.want {
			t.Errorf("kernel %v: %d findings, want %d:\n%s", c.kernel, got, c.want, r.all())
		}
	}
}

// A node that is sent away by the firewall.
func TestRejected(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	node := l.host("br0", "10.77.0.9/24")
	l.golden("full")
	l.nft(l.srv, `table ip fw { chain in { type filter hook input priority 0; udp dport 69 reject; }; }`)
	d := l.watching("--dhcp", "full")
	l.in(node, "timeout", "10", "busybox", "tftp", "-g", "-r", "lpxelinux.0", "-l", "/dev/null", "10.77.0.1")
	r := d.interrupt()
	r.mustFind(t, "wire.rejected", Error, "udp port 69")
	r.mustFind(t, "port.blocked", Error, "udp port 69")
}

// The machine that is asked about says nothing.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	r := l.doctor(1, "--dhcp full --node 52:54:00:99:99:99 --watch 1s", want{"wire.silent", Warning, "52:54:00:99:99:99"})
	if len(r.Story) != 0 {
		t.Errorf("a story of %d steps", len(r.Story))
	}
}

// What is said on the screen is what is in JSON.
func TestTextIsJSON(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	l.run("rm", l.path("images/tftp/images/vmlinuz"))
	r := l.doctor(1, "--dhcp full --watch 0")
	p := l.start(l.srv, l.bin(), "doctor", "--images", "images", "--dhcp", "full", "--watch", "0")
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatal("the doctor doesn't end")
	}
	text := p.out.String()
	for _, f := range r.Findings {
		if !strings.Contains(text, fmt.Sprintf("%s: %s  [%s]", f.Subject, f.What, f.ID)) {
			t.Errorf("the text has no %+v:\n%s", f, text)
		}
	}
	if text != r.all() {
		t.Errorf("text:\n%s\nof JSON:\n%s", text, r.all())
	}
}
