package siteconf

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/internal/nodesfile"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/kamethod/kamethod/templates"
)

// TestPXE: there is no such daemon any more that could look at its file, so
// these are the words that the manuals' has, each with this site's value.
func TestPXE(t *testing.T) {
	want := map[string]string{
		"interface": "eth0", "default_address": "10.77.0.1", "multicast_address": "224.0.1.2", "mtftp_address": "10.77.0.9",
		"mtftp_client_port": "1758", "mtftp_server_port": "1759", "listen_port": "4011", "use_multicast": "1", "use_broadcast": "0",
		"prompt": "Press F8 to view menu ...", "prompt_timeout": "2", "tftpdbase": "/", "domain": "lab.example",
	}
	s := site()
	s.TFTP = netip.MustParseAddr("10.77.0.9")
	var services []string
	for line := range strings.Lines(string(render(t, s, "pxe"))) {
		line = strings.TrimSuffix(line, "\n")
		key, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case key == "service":
			services = append(services, value)
		case !ok || want[key] != value:
			t.Errorf("%q, want %q", line, want[key])
		default:
			delete(want, key)
		}
	}
	if len(want) > 0 || !slices.Equal(services, []string{"X86PC,0,2,linux,kamethod", "X86PC,0,0,local,Local boot"}) {
		t.Errorf("not there: %v; services %q", want, services)
	}
}

// TestTree: a file for each machine and one for the others, in the names that
// each boot loader asks for, with boot lines that stage 1 understands.
func TestTree(t *testing.T) {
	s := site()
	s.Prefix, s.Golden, s.Session, s.Server, s.Directory, s.Default = "X86PC/linux", "10.77.0.1:30765", "room2", "10.77.0.253", "/cs4", "nfs"
	s.Nodes = append(s.Nodes, nodesfile.Node{MAC: stranger, Number: 3, Label: "local"},
		nodesfile.Node{MAC: "52:54:00:77:00:04", Number: 4, Label: "ftp", Server: "10.77.0.5", Append: "kamethod ka.shell"})
	list, err := s.Render("pxelinux")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range list {
		if !filepath.IsLocal(f.Name) || files[f.Name] != "" {
			t.Errorf("file %q", f.Name)
		}
		files[f.Name] = string(f.Text)
	}
	if len(files) != 2+3*5 {
		t.Errorf("%d files", len(files))
	}
	for key, want := range map[string]struct {
		label  string
		number int
		words  string
	}{
		"default":              {"nfs", 0, "automatic=method:nfs,interface:auto,network:dhcp,server:10.77.0.253,directory:/cs4 rw rescue ka.server=10.77.0.1:30765 kaopt=room2 mitigations=off console=ttyS0"},
		"01-52-54-00-77-00-01": {"kamethod", 7, "automatic=method:ka,interface:auto,network:dhcp rw kamethod node_id=7 ka.server=10.77.0.1:30765 kaopt=room2 mitigations=off console=ttyS0"},
		"01-52-54-00-77-00-02": {"dolly", 1, "automatic=method:dolly,dolly_timeout:100,interface:auto,network:dhcp rw rescue dollymethod node_id=1 ka.server=10.77.0.1:30765 kaopt=room2 mitigations=off console=ttyS0"},
		"01-52-54-00-77-00-03": {"local", 3, ""},
		"01-52-54-00-77-00-04": {"ftp", 4, "automatic=method:ftp,interface:auto,network:dhcp,server:10.77.0.5,directory:/cs4 rw rescue kamethod ka.shell node_id=4 ka.server=10.77.0.1:30765 kaopt=room2 mitigations=off console=ttyS0"},
	} {
		menu := files["X86PC/linux/pxelinux.cfg/"+key]
		for _, w := range []string{"\nPROMPT 1\n", "\nDEFAULT " + want.label + "\n", "\nDISPLAY messages\n", "\nTIMEOUT 50\n", "\nF1 help.txt\n", "\nlabel local\n    LOCALBOOT 0\n"} {
			if !strings.Contains(menu, w) {
				t.Errorf("%s: no %q in\n%s", key, w, menu)
			}
		}
		for _, label := range templates.Labels()[1:] {
			_, e, _ := strings.Cut(menu, "\nlabel "+label+"\n")
			_, line, ok := strings.Cut(e, "\n    APPEND ")
			line, _, _ = strings.Cut(line, "\n")
			p, errs := wire.ParseCmdline(line)
			if !ok || len(errs) > 0 || p.NodeID != want.number || p.Session != "room2" || label == want.label && line != want.words {
				t.Errorf("%s, %s: %v, %q, want %q", key, label, errs, line, want.words)
			}
		}
		grub, ipxe := files["grub/grub.cfg-01-"+strings.ReplaceAll(strings.TrimPrefix(key, "01-"), "-", ":")], files["boot.ipxe-"+key]
		bootif := key
		if key == "default" {
			grub, ipxe = files["grub/grub.cfg"], files["boot.ipxe"]
			bootif = "01-"
			if !strings.HasPrefix(grub, "configfile /grub/grub.cfg-01-$net_default_mac\n") || !strings.HasPrefix(ipxe, "#!ipxe\nchain --replace --autofree /boot.ipxe-01-${netX/mac:hexhyp} ||\n") {
				t.Errorf("who has a file of its own isn't sent to it:\n%s%s", grub, ipxe)
			}
		}
		line := want.words + " BOOTIF=" + bootif
		if image := want.label != "local"; strings.Contains(grub, "linux /images/vmlinuz "+line) != image || strings.Contains(ipxe, "kernel /images/vmlinuz "+line) != image {
			t.Errorf("%s: no %q in\n%s%s", key, line, grub, ipxe)
		}
	}
	for _, name := range []string{"messages", "help.txt"} {
		if files["X86PC/linux/"+name] == "" {
			t.Errorf("no %s", name)
		}
	}
}

func TestRefuses(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		want   string
		change func(*Site)
	}{
		{"PXE server (-p)", func(s *Site) { s.PXE = netip.Addr{} }},
		{"TFTP server (-t)", func(s *Site) { s.TFTP = addr("fd00::1") }},
		{"gateway (-w)", func(s *Site) { s.Gateway = addr("10.78.0.1") }},
		{"DNS server (-s)", func(s *Site) { s.DNS = []netip.Addr{addr("224.0.0.1")} }},
		{"network (-n)", func(s *Site) { s.Network = netip.MustParsePrefix("10.77.0.1/24") }},
		{"network (-n)", func(s *Site) { s.Network = netip.Prefix{} }},
		{`label "locale"`, func(s *Site) { s.Default = "locale" }},
		{`domain "a;b"`, func(s *Site) { s.Domain = "a;b" }},
		{"TFTP root", func(s *Site) { s.TFTPRoot = "/srv/$(x)" }},
		{"TFTP root", func(s *Site) { s.TFTPRoot = "tftp" }},
		{"prefix", func(s *Site) { s.Prefix = "../etc" }},
		{"prefix", func(s *Site) { s.Prefix = "/X86PC" }},
		{"interface", func(s *Site) { s.Interface = "eth0\nx" }},
		{"HTTP address", func(s *Site) { s.HTTP = "ftp://x" }},
		{"HTTP address", func(s *Site) { s.HTTP = "http://x/\"" }},
		{`server "a b"`, func(s *Site) { s.Server = "a b" }},
		{"boot line of label", func(s *Site) { s.Session = "a/b" }},
		{"boot line of label", func(s *Site) { s.Golden = "x:y:z" }},
		{"boot line of label", func(s *Site) { s.Console = "console=ttyS0 || x" }},
		{"addresses to lease", func(s *Site) { s.From = addr("10.77.0.10") }},
		{"addresses to lease", func(s *Site) { s.From, s.To = addr("10.77.0.20"), addr("10.77.0.10") }},
		{"addresses to lease", func(s *Site) { s.From, s.To = addr("10.77.0.31"), addr("10.77.0.31") }},
		{"which is a server's", func(s *Site) { s.Nodes[0].Addresses[0] = netip.MustParsePrefix("10.77.0.1/24") }},
	} {
		s := site()
		tt.change(&s)
		_, err := s.Render("dhcpd")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	if _, err := site().Render("bind"); err == nil || !strings.Contains(err.Error(), `"bind": want dhcpd, dnsmasq`) {
		t.Errorf("%v", err)
	}
	for _, kind := range Kinds() {
		if _, err := site().Render(kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestDnsmasqWords: a machine's name that dnsmasq would read as something else
// is refused, for dnsmasq alone, and where it writes names at all.
func TestDnsmasqWords(t *testing.T) {
	for name, refused := range map[string]bool{
		"ignore": true, "infinite": true, "Ignore": true, "12h": true, "12": true, "5": true, "45m": true, "2W": true, "10.0.0.9": true,
		"h": false, "s01": false, "1d2": false, "5x": false, "ignored": false, "ignore.lab.example": false, "12h.lab": false, "mds": false, "": false,
	} {
		s := site()
		s.Nodes[0].Name = name
		_, err := s.Render("dnsmasq")
		if (err != nil) != refused || err != nil && (!strings.Contains(err.Error(), `dnsmasq.conf: name "`+name+`"`) || !strings.Contains(err.Error(), alpha)) {
			t.Errorf("%q: %v, want a refusal: %v", name, err, refused)
		}
		if _, err := s.Render("dhcpd"); err != nil {
			t.Errorf("%q for dhcpd: %v", name, err)
		}
		s.Proxy = true
		if _, err := s.Render("dnsmasq"); err != nil {
			t.Errorf("%q, beside another server: %v", name, err)
		}
	}
}
