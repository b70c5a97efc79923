package wire

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The boot lines are the manuals' own.
func TestParseCmdline(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		want       Params
	}{
		{"empty", "", Params{Interface: "auto", Network: "dhcp"}},
		{
			"ka",
			"initrd=images/all.rdz ramdisk_size=64000 vga=788 automatic=method:ka,interface:eth0,network:dhcp root=/dev/ram3 rw rescue kamethod BOOTIF=01-52-54-00-77-00-0A\n",
			Params{Method: "ka", Interface: "eth0", Network: "dhcp", Rescue: true, KaMethod: true, BootIF: net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 0x0a}},
		},
		{
			"dolly",
			"automatic=method:dolly,dolly_timeout:100,interface:eth0,network:dhcp rescue dollymethod node_id=1",
			Params{Method: "dolly", DollyTimeout: 100 * time.Second, Interface: "eth0", Network: "dhcp", Rescue: true, DollyMethod: true, NodeID: 1},
		},
		{
			"dolly+",
			"automatic=method:dolly,interface:eth0,network:dhcp root=/dev/ram3 rw rescue dollyCmethod",
			Params{Method: "dolly", Interface: "eth0", Network: "dhcp", Rescue: true, DollyCMethod: true},
		},
		{
			"http",
			"automatic=method:http,interface:auto,network:dhcp,server:10.0.1.253,directory:/cs4 root=/dev/ram3 rescue rw",
			Params{Method: "http", Interface: "auto", Network: "dhcp", Server: "10.0.1.253", Directory: "/cs4", Rescue: true},
		},
		{
			"ours",
			`console=tty0 console=ttyS0,115200n8 kamethod=1 kaopt=my_ka-1 ka.server=golden.lab:30765 ka.token=AbC_d-9= ka.break=switch ka.shell ka.none=0 other="two words" -- kaopt=init`,
			Params{
				Interface: "auto", Network: "dhcp", KaMethod: true, Session: "my_ka-1", KaServer: "golden.lab:30765",
				KaToken: "AbC_d-9=", KaBreak: "switch", KaShell: true, Consoles: []string{"tty0", "ttyS0"},
			},
		},
		{
			"diskless", "automatic=method:ka,interface:eth0,network:dhcp ka.run=ram ka.swap=local node_id=31",
			Params{Method: "ka", Interface: "eth0", Network: "dhcp", KaRun: RunRAM, KaSwap: SwapLocal, NodeID: 31},
		},
		{"quotes", `"kaopt=a" ka.server="10.0.0.1"`, Params{Interface: "auto", Network: "dhcp", Session: "a", KaServer: "10.0.0.1"}},
		{
			"ftp on another port",
			"automatic=method:ftp,interface:auto,network:dhcp,server:files.lab:2121,directory:/cs4 root=/dev/ram3 rescue rw ka.unsigned",
			Params{Method: "ftp", Interface: "auto", Network: "dhcp", Server: "files.lab:2121", Directory: "/cs4", Rescue: true, KaUnsigned: true},
		},
		{
			"nfs over IPv6, cloned by the last word",
			"automatic=method:nfs,server:[fd77::1]:2049,directory:/cs4 kamethod rescue dollymethod",
			Params{Method: "nfs", Interface: "auto", Network: "dhcp", Server: "[fd77::1]:2049", Directory: "/cs4", Rescue: true, DollyMethod: true},
		},
		{"the last one counts", "kamethod kamethod=0 kaopt=a kaopt=b", Params{Interface: "auto", Network: "dhcp", Session: "b"}},
		{"unknown item", "automatic=method:ka,flavour:sweet", Params{Method: "ka", Interface: "auto", Network: "dhcp"}},
		{"address alone", "BOOTIF=52:54:00:77:00:0a", Params{Interface: "auto", Network: "dhcp", BootIF: net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 0x0a}}},
		{"IPv6 server", "ka.server=[fd77::1]:30765", Params{Interface: "auto", Network: "dhcp", KaServer: "[fd77::1]:30765"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, errs := ParseCmdline(tt.line)
			if len(errs) != 0 {
				t.Errorf("errors: %v", errs)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// Each malformed word is named, and changes nothing.
func TestParseCmdlineRefuses(t *testing.T) {
	untouched, _ := ParseCmdline("")
	for _, tt := range []struct{ line, word, why string }{
		{"automatic=method:tar", `"method:tar"`, "none of the methods"},
		{"automatic", `"automatic"`, "no items"},
		{"automatic=", `"automatic="`, "no items"},
		{"automatic=ka", `"ka"`, "without a colon"},
		{"automatic=interface:eth0/../x", `"interface:eth0/../x"`, "character '/'"},
		{"automatic=interface:averyveryverylongname", `"interface:averyveryverylongname"`, "longer than 15"},
		{"automatic=network:bootp", `"network:bootp"`, "only dhcp"},
		{"automatic=server:a;reboot", `"server:a;reboot"`, "character ';'"},
		{"automatic=server:a:0", `"server:a:0"`, "port"},
		{"ka.unsigned=yes", `"ka.unsigned=yes"`, "0 or 1"},
		{"automatic=directory:cs4", `"directory:cs4"`, "absolute path"},
		{"automatic=dolly_timeout:soon", `"dolly_timeout:soon"`, "seconds"},
		{"automatic=dolly_timeout:0", `"dolly_timeout:0"`, "seconds"},
		{"node_id=one", `"node_id=one"`, "number"},
		{"ka.run=disk", `"ka.run=disk"`, "no value but ram"},
		{"ka.run", `"ka.run"`, "no value but ram"},
		{"ka.swap=sda2", `"ka.swap=sda2"`, "no value but local"},
		{"node_id=-1", `"node_id=-1"`, "number"},
		{"kaopt=", `"kaopt="`, "no value"},
		{"kaopt", `"kaopt"`, "no value"},
		{`kaopt="a b"`, `"kaopt=a b"`, "character ' '"},
		{"kamethod=yes", `"kamethod=yes"`, "0 or 1"},
		{"rescue=", `"rescue="`, "0 or 1"},
		{"BOOTIF=01-52-54-00-77-00", `"BOOTIF=01-52-54-00-77-00"`, "MAC"},
		{"BOOTIF=20-52-54-00-77-00-01", `"BOOTIF=20-52-54-00-77-00-01"`, "hardware type"},
		{"ka.server=h:0", `"ka.server=h:0"`, "port"},
		{"ka.server=h:99999", `"ka.server=h:99999"`, "port"},
		{"ka.break=lunch", `"ka.break=lunch"`, "none of the stages"},
		{"ka.server=", `"ka.server="`, "no value"},
		{"ka.server=a:b:c", `"ka.server=a:b:c"`, "HOST:PORT"},
		{"ka.token=se%cret", `"ka.token=..."`, "character '%'"},
		{"kaopt=\x1b[2J", `"kaopt=\x1b[2J"`, "character"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			got, errs := ParseCmdline(tt.line + " vga=788")
			if len(errs) != 1 {
				t.Fatalf("got %d errors: %v", len(errs), errs)
			}
			if s := errs[0].Error(); !strings.Contains(s, tt.word) || !strings.Contains(s, tt.why) {
				t.Errorf("%q names neither %s nor %q", s, tt.word, tt.why)
			}
			if d := cmp.Diff(untouched, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
	_, errs := ParseCmdline("node_id=x kaopt= automatic=method:x,network:y")
	if len(errs) != 4 {
		t.Errorf("got %v, want all four", errs)
	}
}

// FuzzParseCmdline checks that what passes is safe to use, whatever came in.
func FuzzParseCmdline(f *testing.F) {
	f.Add("automatic=method:ka,interface:eth0,network:dhcp,server:10.0.0.1,directory:/a,dolly_timeout:100 kamethod rescue kaopt=a node_id=3 BOOTIF=01-52-54-00-77-00-01")
	f.Add(`ka.server=[::1]:30765 ka.token=x ka.break=fetch ka.shell=1 console=ttyS0,115200 "a b`)
	f.Add("ka.run=ram ka.swap=local ka.swap= ka.run=")
	f.Add("automatic=,:,method: BOOTIF= node_id")
	f.Fuzz(func(t *testing.T, line string) {
		p, errs := ParseCmdline(line)
		for _, err := range errs {
			if strings.ContainsFunc(err.Error(), isControl) {
				t.Errorf("control character in %q", err)
			}
		}
		for _, s := range []string{p.Interface, p.Server, p.Session, p.KaServer, p.KaToken, p.KaBreak, p.Directory} {
			if strings.ContainsFunc(s, isControl) {
				t.Errorf("control character in %q", s)
			}
		}
		if strings.ContainsAny(p.Interface, "/ ") || len(p.Interface) > maxIface || p.Interface == "" {
			t.Errorf("interface %q", p.Interface)
		}
		if p.NodeID < 0 || p.NodeID > maxNode || len(p.BootIF) != 0 && len(p.BootIF) != 6 {
			t.Errorf("node %d, BOOTIF %v", p.NodeID, p.BootIF)
		}
		again, _ := ParseCmdline(line)
		if d := cmp.Diff(p, again); d != "" {
			t.Errorf("not the same twice: %s", d)
		}
	})
}
