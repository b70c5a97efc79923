package netboot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Machines with UEFI. Their firmware is OVMF, the loaders are Debian's as
// signed, the disk holds Debian's signed GRUB with a configuration that
// prints a line.

type efiSpec struct {
	http       bool // boot by HTTP, not by PXE
	secureBoot bool
	rom        bool // iPXE in the card's ROM instead of OVMF's own stack
}

func (l *lab) bootEFI(mac string, spec efiSpec) *vm {
	l.t.Helper()
	code, vars := "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
	args := []string{"-machine", "q35,graphics=off"}
	if spec.secureBoot {
		code, vars = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
		args = []string{"-machine", "q35,smm=on,graphics=off", "-global", "driver=cfi.pflash01,property=secure,value=on"}
	}
	if spec.http {
		for _, v := range []string{"4", "6"} {
			args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv"+v+"PXESupport,string=n")
		}
	}
	b, err := os.ReadFile(vars)
	if err != nil {
		l.t.Skipf("needs package ovmf, which scripts/deps-netboot-test.sh installs: %v", err)
	}
	nic := "virtio-net-pci,netdev=n0,mac=" + mac + ",bootindex=1"
	if !spec.rom {
		nic += ",romfile="
	}
	args = append(args, "-device", nic,
		"-drive", "if=pflash,format=raw,readonly=on,file="+code, "-drive", "if=pflash,format=raw,file="+l.write("vars.fd", string(b)))
	return l.machine(l.efiDisk(), args...)
}

// efiDisk is a disk that UEFI firmware itself doesn't boot, for it has no
// EFI/BOOT.
func (l *lab) efiDisk() string {
	l.t.Helper()
	needs(l.t, "sgdisk", "mformat", "mmd", "mcopy")
	b, err := os.ReadFile("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
	if err != nil {
		l.t.Skipf("needs package grub-efi-amd64-signed, which scripts/deps-netboot-test.sh installs: %v", err)
	}
	disk := l.write("efi.img", "")
	if err := os.Truncate(disk, 64<<20); err != nil {
		l.t.Fatal(err)
	}
	l.run("sgdisk", "-n", "1:2048:0", "-t", "1:ef00", disk)
	esp := disk + "@@1M"
	grub, cfg := l.write("disk/grubx64.efi", string(b)), l.write("disk/grub.cfg", "echo \""+diskSays+"\"\nsleep 1000\n")
	l.run("mformat", "-i", esp, "-T", "120000", "-c", "1", "-F", "-v", "ESP", "::")
	l.run("mmd", "-i", esp, "::/EFI", "::/EFI/debian")
	l.run("mcopy", "-i", esp, grub, cfg, "::/EFI/debian/")
	return disk
}

// kernel puts a distribution's signed kernel into the tree and says whether
// there is one: make image fetches it.
func (l *lab) kernel() bool {
	l.t.Helper()
	for _, glob := range []string{"../../../images/.cache/kernel/*/boot/vmlinuz-*", "../../../images/vmlinuz", "/boot/vmlinuz-*"} {
		names, err := filepath.Glob(glob)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, n := range names {
			if b, err := os.ReadFile(n); err == nil {
				l.write("tftp/images/vmlinuz", string(b))
				l.write("tftp/images/all.rdz", strings.Repeat("\x00", 1<<20))
				return true
			}
		}
	}
	return false
}

const locked = "Kernel is locked down from EFI Secure Boot"

func TestEFI(t *testing.T) {
	const console = "console=ttyS0"
	for _, tt := range []struct {
		name   string
		spec   efiSpec
		serve  serveSpec
		kernel []string // the console, with the image
		events []string
	}{
		{"PXE beside dnsmasq", efiSpec{}, serveSpec{DHCP: DHCPProxy}, nil, []string{"[offer] snponly.efi", "[sent snponly.efi (TFTP)]",
			"[offer] http://10.77.0.1:8069/boot.ipxe", "[sent boot configuration (HTTP)]", "[sent vmlinuz (HTTP)]", "[sent all.rdz (HTTP)]"}},
		{"HTTP beside dnsmasq", efiSpec{http: true}, serveSpec{DHCP: DHCPProxy}, nil, []string{"[offer] http://10.77.0.1:8069/snponly.efi", "[sent snponly.efi (HTTP)]",
			"[offer] http://10.77.0.1:8069/boot.ipxe", "[sent boot configuration (HTTP)]", "[sent vmlinuz (HTTP)]", "[sent all.rdz (HTTP)]"}},
		{"Secure Boot", efiSpec{secureBoot: true}, serveSpec{DHCP: DHCPFull}, []string{locked}, []string{"[offer] shimx64.efi", "[sent shimx64.efi (TFTP)]",
			"[sent grubx64.efi (TFTP)]", "[sent boot configuration (TFTP)]", "[sent vmlinuz (TFTP)]", "[sent all.rdz (TFTP)]"}},
		{"iPXE ROM", efiSpec{rom: true}, serveSpec{DHCP: DHCPFull}, nil, []string{"[offer] http://10.77.0.1:8069/boot.ipxe",
			"[sent boot configuration (HTTP)]", "[sent vmlinuz (HTTP)]", "[sent all.rdz (HTTP)]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := firmwareLab(t)
			if !l.kernel() {
				t.Skip("needs a signed kernel: make image fetches one")
			}
			l.answers("* silent", macA+" image")
			if tt.serve.DHCP == DHCPProxy {
				l.dnsmasq(l.host(macB, "10.77.0.2/24"), "eth0")
			}
			tt.serve.Console = console
			tt.serve.Append = "ka.server=10.77.0.1 panic=-1"
			srv := l.ready(tt.serve)
			v := l.bootEFI(macA, tt.spec)
			v.says("Linux version ")
			v.says("ka.server=10.77.0.1 panic=-1 BOOTIF=01-52-54-00-77-00-01")
			for _, text := range tt.kernel {
				v.says(text)
			}
			inOrder(t, srv, tt.events...)
			l.answers("* local")
			v.reset()
			v.says(diskSays)
		})
	}
}
