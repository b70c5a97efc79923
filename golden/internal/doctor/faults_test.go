package doctor

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
)

// A lab where all is well: nothing is wrong, every service was tried, and the
// doctor took no machine's place.
func TestHealthyFull(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	l.golden("full")
	l.doctor(1, "--dhcp proxy --watch 0", want{"service.mode", Warning, "full"})
	r := l.doctor(0, "--interface br0 --watch 2s", // sees that it is full
		want{"service.dhcp", OK, "BIOS"}, want{"service.dhcp", OK, "UEFI x64"}, want{"service.tftp", OK, "pxelinux.0"}, want{"service.tftp", OK, "all.rdz"},
		want{"service.tcp", OK, "8069"}, want{"service.http", OK, "files"}, want{"iface.ok", OK, "10.77.0.1"}, want{"files.ok", OK, "tftp"},
		want{"port.ok", OK, "br0"}, want{"dhcp.alone", OK, "br0"})
	r.mustNotFind(t, "files.secureboot", Note)
	l.noMachine()
	if out := l.in(l.srv, "ip", "-brief", "link"); strings.Contains(out, "kadoc") {
		t.Errorf("the doctor left an interface:\n%s", out)
	}
}

// noMachine checks that golden-serve has seen no machine, so none was armed.
func (l *lab) noMachine() {
	l.t.Helper()
	p := l.start(l.srv, l.bin(), "nodes", "-o", "json")
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		l.t.Fatal("golden-serve nodes doesn't end")
	}
	if p.cmd.ProcessState.ExitCode() != 0 || strings.Contains(p.out.String(), "02:6b:61:64:6f:63") || strings.Contains(p.out.String(), "armed") {
		l.t.Errorf("golden-serve took the doctor for a machine:\n%s%s", p.out.String(), p.said())
	}
}

func TestHealthyProxy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.dnsmasq(l.host("br0", "10.77.0.2/24"), pool)
	l.golden("proxy")
	l.doctor(0, "--watch 2s", // finds br0 itself
		want{"dhcp.addresses", OK, "10.77.0.2"}, want{"service.dhcp", OK, "BIOS"}, want{"service.4011", OK, "4011"}, want{"service.tftp", OK, "vmlinuz"},
		want{"files.secureboot", Note, "--boot-file 7=shimx64.efi"})
	l.noMachine()
}

// Without a golden-serve there is no error, but a note.
func TestNothingRuns(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	l.doctor(0, "--dhcp full --watch 0", want{"service.none", Note, "br0"})
}

// A firewall that drops: named by its chain, port by port, and each service
// that was tried says so too.
func TestFirewallDrops(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	l.golden("full")
	l.nft(l.srv, `table inet fw {
		chain in { type filter hook input priority 0; policy drop;
			iif lo accept
			ct state established,related accept
			udp dport 67 accept
			tcp dport 30765 accept
		}; }`)
	r := l.doctor(1, "--dhcp full --watch 0", want{"port.blocked", Error, "tcp port 8069"}, want{"service.tftp", Error, "udp port 69"},
		want{"service.tcp", Error, "tcp port 8069"}, want{"service.tcp", OK, "tcp port 30765"}, want{"service.dhcp", OK, "BIOS"})
	f := r.mustFind(t, "port.blocked", Error, "udp port 69")
	if advice := "nft insert rule inet fw in iifname br0 udp dport 69 accept"; f.Do != advice {
		t.Errorf("advice %q, want %q", f.Do, advice)
	}

	// The advice helps.
	for _, port := range []string{"udp dport 69", "tcp dport 8069", "tcp dport 30764", "udp dport 30765"} {
		l.nft(l.srv, "insert rule inet fw in iifname br0 "+port+" accept")
	}
	l.doctor(0, "--dhcp full --watch 0", want{"service.tftp", OK, "all.rdz"})
}

func TestFirewallDropsDHCP(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	l.golden("full")
	l.nft(l.srv, `table ip fw { chain in { type filter hook input priority 0; udp dport { 67, 68 } reject; }; }`)
	l.doctor(1, "--dhcp full --watch 0", want{"port.blocked", Error, "udp port 67"}, want{"service.dhcp", Error, "BIOS"})
}

// In proxy mode requests are taken before the firewall's hook: nothing is
// wrong.
func TestFirewallOfProxy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.dnsmasq(l.host("br0", "10.77.0.2/24"), pool)
	l.golden("proxy")
	l.nft(l.srv, `table ip fw { chain in { type filter hook input priority 0; udp dport 67 drop; }; }`)
	l.doctor(0, "--watch 0", want{"service.dhcp", OK, "BIOS"})
}

// Other DHCP servers: with boot files, without addresses, beside full mode.
func TestOtherServers(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		dnsmasq    []string
		id         string
		severity   Severity
		word       string
	}{
		{"boot file", "proxy", []string{pool, "--dhcp-boot=other.0"}, "dhcp.otherboot", Warning, `"other.0"`},
		{"proxy", "proxy", []string{"--dhcp-range=10.77.0.0,proxy", "--pxe-service=x86PC,other,other"}, "dhcp.otherproxy", Error, "10.77.0.2"},
		{"beside full", "full", []string{pool}, "dhcp.other", Error, "10.77.0.2"},
		{"nobody", "proxy", nil, "dhcp.none", Error, "--dhcp full"},
		{"off", "off", []string{pool}, "dhcp.nofile", Error, "next-server 10.77.0.1"},
		{"off and a file that is not there", "off", []string{pool, "--dhcp-boot=gone.0,,10.77.0.1"}, "dhcp.wrongfile", Error, "gone.0"},
		{"off and another machine", "off", []string{pool, "--dhcp-boot=pxelinux.0,,10.77.0.77"}, "dhcp.elsewhere", Warning, "10.77.0.77"},
		{"off and right", "off", []string{pool, "--dhcp-boot=pxelinux.0,,10.77.0.1"}, "dhcp.boots", OK, "pxelinux.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			h := l.host("br0", "10.77.0.2/24")
			if c.dnsmasq != nil {
				l.dnsmasq(h, c.dnsmasq...)
			}
			status := 1
			if c.severity == OK {
				status = 0
			}
			l.doctor(status, "--watch 0 --dhcp "+c.mode, want{c.id, c.severity, c.word})
		})
	}
}

func TestInterfaces(t *testing.T) {
	for _, c := range []struct {
		name  string
		ip    []string
		args  string
		id    string
		sev   Severity
		word  string
		cable bool
	}{
		{"no address", []string{"addr del 10.77.0.1/24 dev br0"}, "--interface br0", "iface.address", Error, "ip addr add", true},
		{"no address anywhere", []string{"addr del 10.77.0.1/24 dev br0"}, "", "iface.address", Error, "no interface of this machine", true},
		{"not there", nil, "--interface eth7", "iface.none", Error, "br0", true},
		{"down", []string{"link set br0 down"}, "--interface br0", "iface.down", Error, "ip link set br0 up", true},
		{"no Ethernet", nil, "--interface lo", "iface.kind", Error, "lo", true},
		{"too small a network", []string{"addr del 10.77.0.1/24 dev br0", "addr add 10.77.0.1/30 brd + dev br0"}, "", "iface.subnet", Error, "/29", true},
		{"no cable", nil, "", "iface.carrier", Error, "cable", false},
		{"several", []string{"link add br1 type bridge", "addr add 10.78.0.1/24 dev br1", "link set br1 up"}, "", "iface.several", Error, "br0, br1", true},
		{"small MTU", []string{"link set br0 mtu 1280"}, "", "iface.mtu", Warning, "1280", true},
		{"jumbo", []string{"link set v1 mtu 9000", "link set br0 mtu 9000"}, "", "iface.mtu", Warning, "9000", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if c.cable {
				l.host("br0", "")
			}
			for _, args := range c.ip {
				l.ip(l.srv, args)
			}
			l.doctor(1, "--dhcp full --watch 0 "+c.args, want{c.id, c.sev, c.word})
		})
	}
}

func TestBusyPorts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	needs(t, "dnsmasq")
	p := l.start(l.srv, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root",
		"--enable-tftp", "--tftp-root="+l.path("images/tftp"), "--log-facility=-")
	p.mustSay("started")
	r := l.doctor(1, "--dhcp full --watch 0", want{"port.busy", Error, "dnsmasq (pid "})
	r.mustNotFind(t, "service.tftp", OK)
	r = l.doctor(1, "--dhcp off --watch 0", want{"port.foreign", Note, "dnsmasq"}, want{"dhcp.none", Error, "br0"})
	r.mustNotFind(t, "port.busy", Error)
}

func TestFiles(t *testing.T) {
	otherKey := "sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct {
		name, id string
		severity Severity
		word     string
		spoil    func(l *lab)
	}{
		{"no kernel", "files.missing", Error, "images/vmlinuz", func(l *lab) { l.run("rm", l.path("images/tftp/images/vmlinuz")) }},
		{"no boot loader", "files.loader", Warning, "BIOS", func(l *lab) {
			l.run("rm", l.path("images/tftp/pxelinux.0"), l.path("images/tftp/lpxelinux.0"))
			l.manifest("6.1.0-lab")
		}},
		{"shim without GRUB", "files.loader", Warning, "UEFI x64", func(l *lab) {
			l.run("rm", l.path("images/tftp/grubx64.efi"), l.path("images/tftp/snponly.efi"))
			l.manifest("6.1.0-lab")
		}},
		{"half copied", "files.differs", Error, "all.rdz", func(l *lab) { l.run("truncate", "-s", "100", l.path("images/all.rdz")) }},
		{"old manifest", "files.kernel", Error, "5.10.0-old", func(l *lab) { l.manifest("5.10.0-old") }},
		{"no manifest", "files.manifest", Warning, "manifest.json", func(l *lab) { l.run("rm", l.path("images/manifest.json")) }},
		{"another kernel", "files.kernel", Error, "6.9.9", func(l *lab) {
			l.write("images/tftp/images/vmlinuz", bzImage("6.9.9-other", 1<<20))
			l.manifest("6.9.9-other")
		}},
		{"no kernel at all", "files.kernel", Error, "bzImage", func(l *lab) { l.write("images/tftp/images/vmlinuz", []byte("text")) }},
		{"another golden node", "files.key", Error, "another golden node", func(l *lab) {
			l.write("images/tftp/images/all.rdz", stage1Image(l.t, "6.1.0-lab", otherKey))
			l.manifest("6.1.0-lab")
		}},
		{"no key", "files.key", Error, "no key", func(l *lab) {
			l.write("images/tftp/images/all.rdz", stage1Image(l.t, "6.1.0-lab", ""))
			l.manifest("6.1.0-lab")
		}},
		{"broken stage 1", "files.stage1", Error, "all.rdz", func(l *lab) { l.write("images/tftp/images/all.rdz", []byte("gzip?")) }},
		{"stage 2 is empty", "files.missing", Error, "rescue.sqfs", func(l *lab) { l.run("truncate", "-s", "0", l.path("images/rescue.sqfs")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &lab{t: t, tmp: t.TempDir()}
			l.files()
			look := func() *Report {
				pin, err := trust.ReadPin(l.path("etc/golden.pub"))
				if err != nil {
					t.Fatal(err)
				}
				return &Report{Findings: newExam(Config{Images: l.path("images")}).files(pin)}
			}
			look().mustFind(t, "files.ok", OK, "tftp")
			c.spoil(l)
			r := look()
			r.mustFind(t, c.id, c.severity, c.word)
			r.mustNotFind(t, "files.ok", OK)
		})
	}
}

// What the doctor can say is in the manual.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/netboot.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	ids := 0
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"((iface|files|port|dhcp|service|wire|nic|system)\.[a-z0-9]+)"`).FindAllStringSubmatch(string(b), -1) {
			ids++
			if !strings.Contains(string(doc), "`"+m[1]+"`") {
				t.Errorf("%s: docs/netboot.md has no %s", name, m[1])
			}
		}
	}
	if ids < 50 {
		t.Errorf("only %d ids were found", ids)
	}
}

func TestCards(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.host("br0", "")
	l.doctor(1, "--dhcp full --watch 0 --pci 8086:1533 --pci 1af4:1000,10ec:8168", want{"nic.ok", OK, "igb"},
		want{"nic.ok", OK, "virtio_pci (in the kernel) and virtio_net"}, want{"nic.driver", Error, "10ec:8168"})
}

func TestUsage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, args := range [][]string{{"--dhcp", "maybe"}, {"--node", "x"}, {"--pci", "8086"}, {"--watch", "-1s"}, {"--watch", "2h"}, {"--interface", "a,b"}, {"-o", "xml"}, {"--http-port", "70000"}, {"more"}, {"--nonsense"}} {
		p := l.start(l.srv, append([]string{l.bin(), "doctor"}, args...)...)
		select {
		case <-p.ended:
		case <-time.After(time.Minute):
			t.Fatalf("%v doesn't end", args)
		}
		if got := p.cmd.ProcessState.ExitCode(); got != 2 || p.said() == "" {
			t.Errorf("%v: exit status %d, want 2, and words:\n%s", args, got, p.said())
		}
	}
}
