package siteconf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLoadersFindTheirs: real GRUB on UEFI, and real iPXE, get the file of all
// machines and by it the one of this machine, from the real servers. The label
// of the others is local, so what loads the image is the machine's own.
func TestLoadersFindTheirs(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	ovmf := []string{"-machine", "q35,graphics=off", "-device", "virtio-net-pci,netdev=n0,mac=" + alpha + ",bootindex=1,romfile=",
		"-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"}
	bios := []string{"-machine", "pc,graphics=off", "-device", "virtio-net-pci,netdev=n0,mac=" + alpha + ",bootindex=1"}
	for _, tt := range []struct {
		name, file string // boot file in place of the rendered one
		vars       string
		args       []string
		says       []string
	}{
		{"GRUB", "", "/usr/share/OVMF/OVMF_VARS_4M.fd", ovmf, []string{"kamethod: loading kernel and stage 1"}},
		{"iPXE", "boot.ipxe", "", bios, []string{"kamethod: loading kernel and stage 1", "/images/vmlinuz"}},
		{"PXELINUX", "", "", bios, []string{"kamethod: clone this machine from the golden node", "Loading images/vmlinuz"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, "dnsmasq", "in.tftpd", "qemu-system-x86_64")
			s := site()
			s.TFTPRoot = filepath.Join(l.dir, "tftp")
			l.loaders()
			list, err := s.Render("pxelinux")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range list {
				l.write("tftp/"+f.Name, f.Text)
			}
			l.write("tftp/images/vmlinuz", []byte(strings.Repeat("no kernel", 10000)))
			l.write("tftp/images/all.rdz", make([]byte, 1<<20))
			conf := string(render(t, s, "dnsmasq"))
			if tt.file != "" {
				conf = strings.ReplaceAll(conf, "pxelinux.0", tt.file)
			}
			log := l.start("dnsmasq", "--no-daemon", "--conf-file="+l.write("dnsmasq.conf", []byte(conf)), "--user=root", "--no-ping",
				"--dhcp-leasefile="+filepath.Join(l.dir, "leases"), "--pid-file=")
			args := tt.args
			if tt.vars != "" {
				b, err := os.ReadFile(tt.vars)
				if err != nil {
					t.Skipf("%v: scripts/setup.sh installs it", err)
				}
				args = append(args, "-drive", "if=pflash,format=raw,file="+l.write("vars.fd", b))
			}
			serial := l.machine(args...)
			for _, text := range tt.says {
				var console []byte
				for end := time.Now().Add(10 * time.Minute); !strings.Contains(string(console), text); time.Sleep(100 * time.Millisecond) {
					if console, err = os.ReadFile(serial); err != nil && !os.IsNotExist(err) || time.Now().After(end) {
						t.Fatalf("%v, the console never said %q:\n%s\n%s", err, text, console, log)
					}
				}
			}
		})
	}
}

// loaders puts the distribution's boot loaders where make image puts them.
func (l *lab) loaders() {
	l.t.Helper()
	for from, to := range map[string]string{
		"/usr/lib/PXELINUX/pxelinux.0":                          "pxelinux.0",
		"/usr/lib/syslinux/modules/bios/ldlinux.c32":            "ldlinux.c32",
		"/usr/lib/shim/shimx64.efi.signed":                      "shimx64.efi",
		"/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed": "grubx64.efi",
	} {
		b, err := os.ReadFile(from)
		if err != nil {
			l.t.Skipf("%v: scripts/deps-netboot-test.sh installs it", err)
		}
		l.write("tftp/"+to, b)
	}
}

// machine starts one on the machines' side of the lab, and gives the file with
// what its serial console says.
func (l *lab) machine(args ...string) (serial string) {
	l.t.Helper()
	l.ip("-n", l.cli, "link", "add", "br0", "type", "bridge")
	l.ip("-n", l.cli, "tuntap", "add", "dev", "tap1", "mode", "tap")
	for _, dev := range []string{"eth0", "tap1"} {
		l.ip("-n", l.cli, "link", "set", dev, "master", "br0", "up")
	}
	l.ip("-n", l.cli, "link", "set", "br0", "up")
	serial = filepath.Join(l.dir, "serial")
	l.startIn(l.cli, append([]string{"qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "1", "-m", "512", "-nodefaults", "-no-user-config",
		"-display", "none", "-serial", "file:" + serial, "-netdev", "tap,id=n0,ifname=tap1,script=no,downscript=no"}, args...)...)
	return serial
}
