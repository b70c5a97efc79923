package siteconf

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/kamethod/kamethod/golden/internal/nodesfile"
)

const (
	alpha    = "52:54:00:77:00:01"
	beta     = "52:54:00:77:00:02"
	stranger = "52:54:00:77:00:03"
)

func site() Site {
	return Site{
		Interface: "eth0", PXE: netip.MustParseAddr("10.77.0.1"), TFTP: netip.MustParseAddr("10.77.0.1"), Gateway: netip.MustParseAddr("10.77.0.254"),
		Network: netip.MustParsePrefix("10.77.0.0/24"), DNS: []netip.Addr{netip.MustParseAddr("10.77.0.253"), netip.MustParseAddr("10.77.0.252")},
		Domain: "lab.example", TFTPRoot: "/srv/tftp", HTTP: "http://10.77.0.1/tftp", Default: "local", Console: "console=ttyS0",
		Nodes: []nodesfile.Node{
			{MAC: alpha, Name: "alpha", Number: 7, Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.0.31/24")}},
			{MAC: beta, Number: 1, Label: "dolly", Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.0.140/24")}},
		},
	}
}

// render is the one file of a kind.
func render(t *testing.T, s Site, kind string) []byte {
	t.Helper()
	list, err := s.Render(kind)
	if err != nil || len(list) != 1 {
		t.Fatalf("%s: %d files, %v", kind, len(list), err)
	}
	return list[0].Text
}

// TestDHCPServers: the real programs take what is written for them, and tell
// each kind of firmware its loader, each machine of the nodes file its address
// and name, and no stranger an address that is somebody's.
func TestDHCPServers(t *testing.T) {
	for _, tt := range []struct {
		kind, program string
		run           func(l *lab, file string)
	}{
		{"dhcpd", "dhcpd", func(l *lab, file string) {
			leases := l.write("leases", nil)
			l.check("", "dhcpd", "-4", "-t", "-cf", file, "-lf", leases, "-pf", filepath.Join(l.dir, "pid"))
			l.start("dhcpd", "-4", "-f", "-d", "-cf", file, "-lf", leases, "-pf", filepath.Join(l.dir, "pid"), "eth0")
		}},
		{"dnsmasq", "dnsmasq", func(l *lab, file string) {
			l.check("syntax check OK", "dnsmasq", "--test", "--conf-file="+file)
			l.start("dnsmasq", "--no-daemon", "--conf-file="+file, "--user=root", "--no-ping", "--dhcp-leasefile="+filepath.Join(l.dir, "leases"), "--pid-file=")
		}},
		{"kea", "kea-dhcp4", func(l *lab, file string) {
			l.check("", "kea-dhcp4", "-t", file)
			b, err := os.ReadFile(file)
			if err != nil {
				l.t.Fatal(err)
			}
			here := strings.Replace(string(b), `"persist": true`, `"persist": false`, 1) // /var/lib/kea is this machine's
			l.start("kea-dhcp4", "-c", l.write("here.conf", []byte(here)))
		}},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			l := newLab(t, tt.program)
			s := site()
			s.TFTPRoot = l.dir
			tt.run(l, l.write(tt.kind+".conf", render(t, s, tt.kind)))
			for _, ask := range []struct {
				mac, class       string
				arch             byte
				file, addr, name string
			}{
				{alpha, "PXEClient:Arch:00000:UNDI:002001", 0, "pxelinux.0", "10.77.0.31", "alpha"},
				{alpha, "PXEClient:Arch:00007:UNDI:003000", 7, "shimx64.efi", "10.77.0.31", "alpha"},
				{beta, "PXEClient:Arch:00009:UNDI:003000", 9, "shimx64.efi", "10.77.0.140", ""},
				{stranger, "PXEClient:Arch:00000:UNDI:002001", 0, "pxelinux.0", "", ""},
				{stranger, "HTTPClient:Arch:00016:UNDI:003001", 16, "http://10.77.0.1/tftp/snponly.efi", "", ""},
			} {
				r, err := l.ask(ask.mac, ask.class, "", ask.arch)
				if err != nil {
					t.Fatalf("%s, %s: %v", ask.mac, ask.class, err)
				}
				file := r.BootFileName
				if file == "" {
					file = r.BootFileNameOption()
				}
				ip, _ := netip.AddrFromSlice(r.YourIPAddr.To4())
				if file != ask.file || ask.addr != "" && ip.String() != ask.addr {
					t.Errorf("%s, %s: file %q, address %v, want %q, %s", ask.mac, ask.class, file, ip, ask.file, ask.addr)
				}
				if ask.addr == "" && (ip.Less(netip.MustParseAddr("10.77.0.128")) || !ip.Less(netip.MustParseAddr("10.77.0.252")) || ip.String() == "10.77.0.140") {
					t.Errorf("%s: address %v isn't of the pool", ask.mac, ip)
				}
				wantClass, _, _ := strings.Cut(ask.class, ":")
				if r.ClassIdentifier() != wantClass || wantClass == "PXEClient" && r.ServerIPAddr.String() != "10.77.0.1" {
					t.Errorf("%s, %s: class %q, next server %v", ask.mac, ask.class, r.ClassIdentifier(), r.ServerIPAddr)
				}
				if how := r.Options.Get(dhcpv4.OptionVendorSpecificInformation); wantClass == "PXEClient" && !strings.HasPrefix(string(how), "\x06\x01\x08") {
					t.Errorf("%s, %s: option 43 is %x", ask.mac, ask.class, how)
				}
				if name := r.HostName(); name != ask.name && ask.name != "" {
					t.Errorf("%s: name %q, want %q", ask.mac, name, ask.name)
				}
				if len(r.Router()) != 1 || r.Router()[0].String() != "10.77.0.254" || len(r.DNS()) != 2 || r.DomainName() != "lab.example" || r.SubnetMask().String() != "ffffff00" {
					t.Errorf("%s: router %v, DNS %v, domain %q, mask %v", ask.mac, r.Router(), r.DNS(), r.DomainName(), r.SubnetMask())
				}
			}
		})
	}
}

// TestProxy: dnsmasq beside another DHCP server tells firmware its loader, and
// gives no address.
func TestProxy(t *testing.T) {
	l := newLab(t, "dnsmasq")
	s := site()
	s.Proxy, s.TFTPRoot = true, l.dir
	file := l.write("dnsmasq.conf", render(t, s, "dnsmasq"))
	l.check("syntax check OK", "dnsmasq", "--test", "--conf-file="+file)
	l.start("dnsmasq", "--no-daemon", "--conf-file="+file, "--user=root", "--no-ping", "--pid-file=")
	for _, ask := range []struct {
		class, user string
		arch        byte
		file        string
	}{
		{"PXEClient:Arch:00000:UNDI:002001", "", 0, "pxelinux.0"},
		{"PXEClient:Arch:00007:UNDI:003000", "", 7, "snponly.efi"},
		{"PXEClient:Arch:00009:UNDI:003000", "", 9, "snponly.efi"},
		{"PXEClient:Arch:00007:UNDI:003010", "iPXE", 7, "boot.ipxe"},
	} {
		offer, err := l.ask(stranger, ask.class, ask.user, ask.arch)
		if err != nil {
			t.Fatal(err)
		}
		if !offer.YourIPAddr.IsUnspecified() || offer.ClassIdentifier() != "PXEClient" {
			t.Errorf("%+v is offered\n%s", ask, offer.Summary())
		}
		// On to the boot server at port 4011: that of this number, or for UEFI
		// the only one (PXE 2.1, tags 8 and 71; dnsmasq has both).
		how := offer.Options.Get(dhcpv4.OptionVendorSpecificInformation)
		i := strings.Index(string(how), "\x01\x0a\x4d\x00\x01")
		if ask.arch == 0 && i < 2 || ask.arch != 0 && offer.ServerIPAddr.String() != "10.77.0.1" {
			t.Fatalf("%+v is offered no boot server 10.77.0.1:\n%s", ask, offer.Summary())
		}
		server, err := l.bootServer(stranger, ask.class, ask.user, ask.arch, how[max(i-2, 0):max(i, 0)])
		if err != nil {
			t.Fatal(err)
		}
		if server.BootFileName != ask.file || server.ServerIPAddr.String() != "10.77.0.1" {
			t.Errorf("%+v is told %q of %v", ask, server.BootFileName, server.ServerIPAddr)
		}
	}
}

// TestTFTPServers: the real programs, started as their distribution starts
// them, give a machine a file.
func TestTFTPServers(t *testing.T) {
	for _, tt := range []struct {
		kind    string
		program string
		run     func(l *lab, file string)
	}{
		{"tftpd-hpa", "in.tftpd", func(l *lab, file string) {
			// As /etc/init.d/tftpd-hpa does.
			l.start("sh", "-c", `. "$1"; exec in.tftpd --listen --foreground --user "$TFTP_USERNAME" --address "$TFTP_ADDRESS" $TFTP_OPTIONS "$TFTP_DIRECTORY"`, "sh", file)
		}},
		{"xinetd", "xinetd", func(l *lab, file string) {
			l.start("xinetd", "-dontfork", "-filelog", filepath.Join(l.dir, "log"), "-pidfile", filepath.Join(l.dir, "pid"), "-f", file)
		}},
		{"dnsmasq", "dnsmasq", func(l *lab, file string) {
			l.start("dnsmasq", "--no-daemon", "--conf-file="+file, "--user=root", "--pid-file=", "--dhcp-leasefile="+filepath.Join(l.dir, "leases"))
		}},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			l := newLab(t, tt.program, "in.tftpd", "busybox")
			s := site()
			s.TFTPRoot = filepath.Join(l.dir, "tftp")
			l.write("tftp/pxelinux.cfg/01-"+strings.ReplaceAll(alpha, ":", "-"), []byte("DEFAULT kamethod\n"))
			tt.run(l, l.write("conf", render(t, s, tt.kind)))
			var got string
			var err error
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
				if got, err = l.fetch("pxelinux.cfg/01-" + strings.ReplaceAll(alpha, ":", "-")); err == nil {
					break
				}
			}
			if err != nil || got != "DEFAULT kamethod\n" {
				t.Errorf("%v, %q", err, got)
			}
			if _, err := l.fetch("../conf"); err == nil {
				t.Error("a file outside of the root is given out")
			}
		})
	}
}
