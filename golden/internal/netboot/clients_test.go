package netboot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	macA = "52:54:00:77:00:01"
	macB = "52:54:00:77:00:02"
)

// udhcpcScript prints what the client understood, as shell variables.
const udhcpcScript = "#!/bin/sh\necho EVENT=$1; env | sort\n[ \"$1\" = bound ] && ip addr add $ip/$mask dev $interface\nexit 0\n"

func TestFullWithUdhcpc(t *testing.T) {
	needs(t, "busybox")
	l := newLab(t)
	c := l.host(macA, "")
	lf := filepath.Join(l.tmp, "leases")
	srv := l.ready(serveSpec{DHCP: DHCPFull, LeaseFile: lf})
	script := l.write("udhcpc.sh", udhcpcScript)
	base := []string{"busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", script}
	pxe := append(base, "-V", "PXEClient:Arch:00000:UNDI:002001", "-O", "bootfile", "-O", "tftp", "-x", "0x5d:0000")

	got := l.mustRun(c, pxe...)
	for _, want := range []string{"EVENT=bound", "boot_file=pxelinux.0", "siaddr=10.77.0.1", "sname=10.77.0.1", "tftp=10.77.0.1",
		"bootfile=pxelinux.0", "router=10.77.0.1", "dns=10.77.0.1", "domain=lab.example", "subnet=255.255.255.0", "broadcast=10.77.0.255", "serverid=10.77.0.1"} {
		if !strings.Contains(got, want) {
			t.Errorf("PXE client missed %q in\n%s", want, got)
		}
	}
	ip := field(got, "ip=")
	if !strings.HasPrefix(ip, "10.77.0.") || ip < "10.77.0.128" {
		t.Errorf("address %q, want one of the upper half", ip)
	}

	// An ordinary system: the same address, nothing about booting.
	got = l.mustRun(c, base...)
	if strings.Contains(got, "boot_file=") || strings.Contains(got, "tftp=") || field(got, "ip=") != ip {
		t.Errorf("ordinary client, want address %s and no boot file, got\n%s", ip, got)
	}

	// Silent: an address, nothing about booting.
	l.answers("* local", macA+" silent")
	if got = l.mustRun(c, pxe...); strings.Contains(got, "boot_file=") || field(got, "ip=") != ip {
		t.Errorf("silent client got\n%s", got)
	}

	// A restart keeps the lease.
	srv.stop()
	if b, err := os.ReadFile(lf); err != nil || !bytes.Contains(b, []byte(ip)) {
		t.Fatalf("lease file: %v\n%s", err, b)
	}
	l.ready(serveSpec{DHCP: DHCPFull, LeaseFile: lf})
	if got = l.mustRun(c, base...); field(got, "ip=") != ip {
		t.Errorf("after a restart got\n%s\nwant %s", got, ip)
	}
}

func (l *lab) mustRun(ns string, args ...string) string {
	l.t.Helper()
	out, err := l.in(ns, args...)
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func field(env, name string) string {
	for line := range strings.Lines(env) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func TestFullWithDhclient(t *testing.T) {
	needs(t, "dhclient")
	l := newLab(t)
	c := l.host(macA, "")
	l.ready(serveSpec{DHCP: DHCPFull})
	conf := l.write("dhclient.conf", `option arch code 93 = unsigned integer 16;
interface "eth0" { send vendor-class-identifier "PXEClient:Arch:00000:UNDI:002001"; send arch 0;
 request subnet-mask, routers, tftp-server-name, bootfile-name, vendor-encapsulated-options, vendor-class-identifier; }`)
	leases, pid := l.write("dh.leases", ""), filepath.Join(l.tmp, "dh.pid")
	p := l.start(c, nil, "dhclient", "-4", "-1", "-d", "-v", "-cf", conf, "-sf", "/bin/true", "-lf", leases, "-pf", pid, "eth0")
	p.mustSee("bound to 10.77.0.", 30*time.Second)
	b, err := os.ReadFile(leases)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`filename "pxelinux.0"`, `server-name "10.77.0.1"`, `option tftp-server-name "10.77.0.1"`,
		`option bootfile-name "pxelinux.0"`, "option vendor-encapsulated-options 6:1:8:ff", `option vendor-class-identifier "PXEClient"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("dhclient missed %q in\n%s", want, b)
		}
	}
}

func TestFixedAddress(t *testing.T) {
	needs(t, "busybox")
	l := newLab(t)
	c := l.host(macA, "")
	l.ready(serveSpec{DHCP: DHCPFull, Fixed: map[string]netipAddr{macA: addr("10.77.0.42")}})
	out := l.mustRun(c, "busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", l.write("s.sh", udhcpcScript), "-r", "10.77.0.200")
	if field(out, "ip=") != "10.77.0.42" {
		t.Errorf("want 10.77.0.42, got\n%s", out)
	}
}

func TestFilesWithRealClients(t *testing.T) {
	needs(t, "tftp", "atftp", "curl", "busybox")
	l := newLab(t)
	c := l.host(macA, "10.77.0.10/24")
	srv := l.ready(serveSpec{DHCP: DHCPOff})
	kernel, err := os.ReadFile(filepath.Join(l.dir, "images/vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(l.tmp, "out")
	const host = "10.77.0.1"
	for name, args := range map[string][]string{
		"tftp-hpa":      {"tftp", "-4", "-m", "binary", host, "-c", "get", "images/vmlinuz", out},
		"tftp-hpa /":    {"tftp", "-4", "-m", "binary", host, "-c", "get", "//images//vmlinuz", out},
		"tftp-hpa \\":   {"tftp", "-4", "-m", "binary", host, "-c", "get", `\images\vmlinuz`, out},
		"atftp":         {"atftp", "--option", "blksize 1428", "--option", "tsize 0", "-g", "-r", "images/vmlinuz", "-l", out, host, "69"},
		"atftp big":     {"atftp", "--option", "blksize 65464", "-g", "-r", "images/vmlinuz", "-l", out, host, "69"},
		"curl tftp":     {"curl", "-sS", "--tftp-blksize", "1428", "-o", out, "tftp://" + host + "/images/vmlinuz"},
		"curl tftp old": {"curl", "-sS", "--tftp-no-options", "-o", out, "tftp://" + host + "/images/vmlinuz"},
		"busybox tftp":  {"busybox", "tftp", "-g", "-b", "1428", "-r", "images/vmlinuz", "-l", out, host},
		"curl http":     {"curl", "-sSf", "-o", out, "http://" + host + ":8069/images/vmlinuz"},
	} {
		_ = os.Remove(out)
		msg, err := l.in(c, args...)
		for try := 0; err != nil && args[0] == "atftp" && try < 2; try++ {
			msg, err = l.in(c, args...) // a machine so busy that it is sent an OACK twice makes it give up
		}
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, msg)
		}
		got, err := os.ReadFile(out)
		if err != nil || !bytes.Equal(got, kernel) {
			t.Errorf("%s: %v, %d bytes, want %d: %s", name, err, len(got), len(kernel), msg)
		}
	}
	if n := strings.Count(srv.output(), "[sent vmlinuz (TFTP)] images/vmlinuz 1048576"); n != 8 {
		t.Errorf("%d TFTP events, want 8", n)
	}

	if msg := l.mustRun(c, "curl", "-sSf", "-r", "8-15", "http://"+host+":8069/images/vmlinuz"); msg != "kernel--" {
		t.Errorf("range 8-15: %q", msg)
	}
	head := l.mustRun(c, "curl", "-sSfI", "http://"+host+":8069/images/vmlinuz")
	if !strings.Contains(head, "Content-Length: 1048576") || !strings.Contains(head, "Accept-Ranges: bytes") {
		t.Errorf("HEAD: %s", head)
	}
	if msg, err := l.in(c, "curl", "-sSf", "-X", "PUT", "--data", "x", "http://"+host+":8069/images/vmlinuz"); err == nil || !strings.Contains(msg, "405") {
		t.Errorf("PUT: %v %s", err, msg)
	}
	up := l.write("up", "x")
	msg, err := l.in(c, "curl", "-sS", "-T", up, "tftp://"+host+"/images/vmlinuz")
	if err == nil {
		t.Errorf("TFTP write was taken: %s", msg)
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	needs(t, "atftp", "curl")
	l := newLab(t)
	c := l.host(macA, "10.77.0.10/24")
	secret := l.write("secret", "SECRET")
	if err := os.Symlink(secret, filepath.Join(l.dir, "link")); err != nil {
		t.Fatal(err)
	}
	srv := l.ready(serveSpec{DHCP: DHCPOff})
	l.write("tftp/later", "SECRET") // not there when the list was made
	for _, name := range []string{"../secret", "images/../../secret", `..\secret`, "/../secret", secret, "link", "later", "images", "",
		"/etc/passwd", "....//secret", "pxelinux.cfg/../secret", "pxelinux.cfg", "pxelinux.0/../../secret"} {
		out := filepath.Join(l.tmp, "got")
		_ = os.Remove(out)
		_, _ = l.in(c, "atftp", "-g", "-r", name, "-l", out, "10.77.0.1", "69") // its status says nothing
		if b, _ := os.ReadFile(out); len(b) > 0 {
			t.Errorf("TFTP %q: got %q", name, b)
		}
		msg, err := l.in(c, "curl", "-sSf", "--path-as-is", "http://10.77.0.1:8069/"+strings.ReplaceAll(name, `\`, "%5c"))
		if err == nil || !strings.Contains(msg, "404") {
			t.Errorf("HTTP %q: %v %s", name, err, msg)
		}
	}
	if !srv.saw("not found (TFTP)", 30*time.Second) || !srv.saw("not found (HTTP)", 30*time.Second) {
		t.Error("no event for a refused name")
	}
}

func TestPxelinuxConfigByName(t *testing.T) {
	needs(t, "curl")
	l := newLab(t)
	c := l.host(macA, "10.77.0.10/24")
	l.answers("* silent", macA+" image", macB+" local")
	l.ready(serveSpec{DHCP: DHCPOff, Append: "ka.server=10.77.0.1 ka.token=abc", Console: "console=ttyS0,115200"})
	get := func(name string) string {
		out, _ := l.in(c, "curl", "-sSf", "tftp://10.77.0.1/pxelinux.cfg/"+name)
		return out
	}
	const image, local = "DEFAULT kamethod", "DEFAULT local"
	for name, want := range map[string]string{
		"01-52-54-00-77-00-01":                 image,
		"01-52-54-00-77-00-02":                 "", // another machine's
		"01-52-54-00-77-00-03":                 "",
		"77770000-0000-4000-8000-000000000001": image, // by its neighbour entry
		"0A4D000A":                             image,
		"0A4D000B":                             "",
		"0A4D00":                               "",
		"default":                              image,
	} {
		got := get(name)
		if (want == "") == strings.Contains(got, "DEFAULT") || !strings.Contains(got, want) {
			t.Errorf("%s: want %q, got\n%s", name, want, got)
		}
	}
	text := get("01-52-54-00-77-00-01")
	for _, want := range []string{"KERNEL images/vmlinuz", "INITRD images/all.rdz", "SERIAL 0 115200", "SYSAPPEND 2",
		"console=ttyS0,115200 ka.server=10.77.0.1 ka.token=abc\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
	l.answers("* silent", macA+" local")
	if text := get("01-52-54-00-77-00-01"); strings.Contains(text, "ka.token") || !strings.Contains(text, "LOCALBOOT 0") {
		t.Errorf("local boot:\n%s", text)
	}
	l.answers("* silent")
	if text := get("default"); !strings.Contains(text, local) || strings.Contains(text, "ka.token") {
		t.Errorf("default for a stranger:\n%s", text)
	}
	if out := l.mustRun(c, "curl", "-sSf", "http://10.77.0.1:8069/pxelinux.cfg/default"); !strings.Contains(out, local) {
		t.Errorf("by HTTP:\n%s", out)
	}
}

func TestProxyBesideDnsmasq(t *testing.T) {
	needs(t, "busybox", "dnsmasq")
	for _, where := range []string{"another host", "the same host"} {
		t.Run(where, func(t *testing.T) {
			l := newLab(t)
			c := l.host(macA, "")
			ns, ifname, server := l.srv, "br0", "10.77.0.1"
			if where == "another host" {
				ns, ifname, server = l.host(macB, "10.77.0.2/24"), "eth0", "10.77.0.2"
			}
			dns := l.dnsmasq(ns, ifname)
			srv := l.ready(serveSpec{DHCP: DHCPProxy})
			script := l.write("udhcpc.sh", udhcpcScript)
			base := []string{"busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", script}
			out := l.mustRun(c, base...)
			if field(out, "serverid=") != server || strings.Contains(srv.output(), "EVENT") {
				t.Errorf("ordinary client: want a lease of %s and nothing of ours, got\n%s", server, out)
			}
			// udhcpc takes the first offer, even ours without an address, so
			// whether it ends bound is not the point here (QEMU's ROM shows
			// that), only who is answered.
			pxe := append(base, "-t", "1", "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000")
			_, _ = l.in(c, pxe...)
			srv.mustSee("EVENT "+macA+" invalid IP [offer] pxelinux.0", 30*time.Second)
			l.answers("* silent")
			n := strings.Count(srv.output(), "[offer]")
			if out := l.mustRun(c, pxe...); field(out, "serverid=") != server || field(out, "boot_file=") != "" {
				t.Errorf("silent PXE client: want a lease of %s alone, got\n%s", server, out)
			}
			if strings.Count(srv.output(), "[offer]") != n {
				t.Error("a silent machine was answered")
			}
			if strings.Contains(srv.output(), "[address") {
				t.Error("proxy mode gave an address")
			}
			if !dns.saw("DHCPACK", 30*time.Second) {
				t.Error("dnsmasq gave no lease")
			}
		})
	}
}

// dnsmasq starts a foreign DHCP server with its habits, the ping included.
func (l *lab) dnsmasq(ns, ifname string, more ...string) *process {
	l.t.Helper()
	p := l.start(ns, nil, append([]string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=" + ifname, "--bind-interfaces",
		"--dhcp-range=10.77.0.50,10.77.0.59,255.255.255.0,1h", "--log-dhcp", "--log-facility=-", "--user=root",
		"--dhcp-leasefile=" + filepath.Join(l.tmp, "dnsmasq.leases")}, more...)...)
	p.mustSee("sockets bound exclusively", 30*time.Second)
	return p
}

func TestFullRefusesBesideDnsmasq(t *testing.T) {
	needs(t, "dnsmasq", "busybox")
	l := newLab(t)
	l.dnsmasq(l.host(macB, "10.77.0.2/24"), "eth0")
	p := l.server(serveSpec{DHCP: DHCPFull})
	p.mustSee("ERROR another DHCP server answers on br0: [10.77.0.2]: use --dhcp proxy", 30*time.Second)
	l.ready(serveSpec{DHCP: DHCPFull, Force: true}).mustSee("serving all the same", 30*time.Second)
}

func TestRefusals(t *testing.T) {
	needs(t, "dnsmasq")
	l := newLab(t)
	for _, args := range []string{"link add bare type bridge", "link set bare up", "link add down0 type bridge", "addr add 10.78.0.1/24 dev down0"} {
		l.ip(l.srv, args)
	}
	for _, c := range []struct {
		spec serveSpec
		want string
	}{
		{serveSpec{Interface: "bare"}, "interface bare has no IPv4 address: give it one (ip address add"},
		{serveSpec{Interface: "down0"}, "interface down0 is down: ip link set down0 up"},
		{serveSpec{Interface: "none7"}, "interface none7: "},
		{serveSpec{Interface: "lo"}, "interface lo is no Ethernet interface"},
		{serveSpec{Addr: prefix("10.77.0.9/24")}, "address 10.77.0.9 is not on interface br0"},
		{serveSpec{DHCP: "both"}, `dhcp mode "both"`},
		{serveSpec{DHCP: DHCPFull, From: addr("10.78.0.1"), To: addr("10.78.0.9")}, "10.78.0.1 is not in 10.77.0.0/24"},
		{serveSpec{DHCP: DHCPFull, From: addr("10.77.0.9"), To: addr("10.77.0.8")}, "the end is before the start"},
		{serveSpec{DHCP: DHCPFull, Fixed: map[string]netipAddr{"zz": addr("10.77.0.9")}}, `MAC address "zz"`},
		{serveSpec{DHCP: DHCPFull, LeaseFile: "/nowhere/leases"}, "write lease file /nowhere/leases"},
		{serveSpec{DHCP: DHCPFull, LeaseFile: l.tmp}, "read lease file " + l.tmp},
		{serveSpec{Append: "a\nLABEL evil"}, "is not printable ASCII"},
	} {
		p := l.server(c.spec)
		<-p.ended
		if !strings.Contains(p.output(), "ERROR "+c.want) && !strings.Contains(p.output(), c.want) {
			t.Errorf("%+v: want %q, got %s", c.spec, c.want, p.output())
		}
	}
}

func TestPortsInUse(t *testing.T) {
	needs(t, "dnsmasq", "busybox")
	l := newLab(t)
	d := l.dnsmasq(l.srv, "br0", "--enable-tftp", "--tftp-root="+l.dir)
	p := l.server(serveSpec{DHCP: DHCPFull})
	p.mustSee("udp port 67 on br0 is in use by dnsmasq (pid "+fmt.Sprint(d.cmd.Process.Pid)+"): another DHCP server runs here", 30*time.Second)
	p = l.server(serveSpec{DHCP: DHCPOff})
	p.mustSee("udp port 69 on br0 is in use by dnsmasq", 30*time.Second)
	d.stop()
	first := l.ready(serveSpec{DHCP: DHCPProxy})
	first.mustSee("boot file missing: machines will not boot (make image makes it)\" name=ldlinux.c32", 30*time.Second)
	l.server(serveSpec{DHCP: DHCPProxy}).mustSee("udp port 4011 on br0 is in use by netboot.test", 30*time.Second)
	first.stop()
	l.start(l.srv, nil, "busybox", "nc", "-ll", "-p", "8069", "-e", "cat")
	time.Sleep(300 * time.Millisecond)
	l.server(serveSpec{DHCP: DHCPOff}).mustSee("tcp port 8069 on br0 is in use by busybox", 30*time.Second)
}
