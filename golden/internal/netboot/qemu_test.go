package netboot

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/iana"
)

// These tests boot a real PXE ROM and the distribution's real PXELINUX. The
// disk holds a boot sector that prints a line.

const (
	diskSays = "BOOTED FROM THE LOCAL DISK"
	bootTime = 5 * time.Minute // 8 to 20 s when the machine is idle
)

// bootSector prints diskSays with the BIOS's teletype call and halts.
func bootSector() []byte {
	code := []byte{
		0x31, 0xc0, // xor ax,ax
		0x8e, 0xd8, // mov ds,ax
		0xbe, 0x17, 0x7c, // mov si,0x7c17: the text
		0xac,       // lodsb
		0x84, 0xc0, // test al,al
		0x74, 0x08, // jz end
		0xb4, 0x0e, // mov ah,0x0e
		0x31, 0xdb, // xor bx,bx
		0xcd, 0x10, // int 0x10
		0xeb, 0xf3, // jmp lodsb
		0xf4,       // end: hlt
		0xeb, 0xfd, // jmp end
	}
	b := make([]byte, 512)
	copy(b, code)
	copy(b[0x17:], diskSays+"\r\n\x00")
	b[510], b[511] = 0x55, 0xaa
	return b
}

// vm is one QEMU machine.
type vm struct {
	*process
	serial  string
	monitor string
}

// loaders puts the distribution's boot loaders where make image puts them.
func (l *lab) loaders() {
	l.t.Helper()
	for from, to := range map[string]string{
		"/usr/lib/PXELINUX/pxelinux.0":                          "pxelinux.0",
		"/usr/lib/PXELINUX/lpxelinux.0":                         "lpxelinux.0",
		"/usr/lib/syslinux/modules/bios/ldlinux.c32":            "ldlinux.c32",
		"/usr/lib/shim/shimx64.efi.signed":                      "shimx64.efi",
		"/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed": "grubx64.efi",
		"/usr/lib/ipxe/snponly.efi":                             "snponly.efi",
	} {
		b, err := os.ReadFile(from)
		if err != nil {
			l.t.Skipf("needs %s: scripts/deps-netboot-test.sh installs it", from)
		}
		l.write("tftp/"+to, string(b))
	}
}

// firmwareLab is a lab for virtual machines.
func firmwareLab(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	needs(t, "qemu-system-x86_64", "dnsmasq")
	l := newLab(t)
	l.loaders()
	// QEMU's iPXE waits 13 s for a router advertisement otherwise.
	l.ip(l.srv, "-6 addr add fd77::1/64 dev br0 nodad")
	l.start(l.srv, nil, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root",
		"--enable-ra", "--dhcp-range=fd77::,ra-only,64", "--dhcp-leasefile="+filepath.Join(l.tmp, "ra.leases")).mustSee("router advertisement", 30*time.Second)
	return l
}

// boot starts a BIOS machine whose PXE ROM is iPXE.
func (l *lab) boot(mac, nic string) *vm {
	disk := l.write("disk.img", string(append(bootSector(), make([]byte, 1<<20)...)))
	return l.machine(disk, "-machine", "pc,graphics=off", "-device", nic+",netdev=n0,mac="+mac+",bootindex=1")
}

// machine starts QEMU with a network card on the bridge, to which the caller
// gives its device.
func (l *lab) machine(disk string, args ...string) *vm {
	l.t.Helper()
	l.vms++
	tap := fmt.Sprintf("tap%d", l.vms)
	l.ip(l.srv, "tuntap add dev "+tap+" mode tap")
	l.ip(l.srv, "link set "+tap+" master br0 up")
	v := &vm{serial: filepath.Join(l.tmp, tap+".serial"), monitor: filepath.Join(l.tmp, tap+".mon")}
	v.process = l.start(l.srv, nil, append([]string{"qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "1", "-m", "512",
		"-nodefaults", "-no-user-config", "-display", "none", "-boot", "reboot-timeout=2000", "-uuid", "77770000-1234-4abc-8000-000000000001",
		"-serial", "file:" + v.serial, "-monitor", "unix:" + v.monitor + ",server=on,wait=off", "-netdev", "tap,id=n0,ifname=" + tap + ",script=no,downscript=no",
		"-drive", "if=none,id=d0,format=raw,cache=unsafe,file=" + disk, "-device", "virtio-blk-pci,drive=d0,bootindex=2"}, args...)...)
	l.t.Cleanup(func() {
		if l.t.Failed() {
			b, _ := os.ReadFile(v.serial)
			l.t.Logf("serial console:\n%s", b)
		}
	})
	return v
}

// says waits for a text on the serial console.
func (v *vm) says(text string) {
	v.t.Helper()
	for end := time.Now().Add(bootTime); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(v.serial)
		if err == nil && bytes.Contains(b, []byte(text)) {
			return
		}
	}
	v.t.Fatalf("the console never said %q", text)
}

// reset presses the machine's reset button.
func (v *vm) reset() {
	v.t.Helper()
	c, err := net.Dial("unix", v.monitor)
	if err != nil {
		v.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("system_reset\n")); err != nil {
		v.t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for got := ""; strings.Count(got, "(qemu)") < 2; { // the second prompt follows the command
		b := make([]byte, 512)
		n, err := c.Read(b)
		if err != nil {
			v.t.Fatalf("monitor said %q: %v", got, err)
		}
		got += string(b[:n])
	}
}

// inOrder says that each event follows the one before. The log is a little
// behind what a machine shows.
func inOrder(t *testing.T, srv *process, events ...string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		log := srv.output()
		missing, rest := "", log
		for _, e := range events {
			_, after, ok := strings.Cut(rest, e)
			if !ok {
				missing = e
				break
			}
			rest = after
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %q (in this order: %q) in\n%s", missing, events, log)
		}
	}
}

// bios names a boot file for BIOS machines.
func bios(file string) map[iana.Arch]string { return map[iana.Arch]string{iana.INTEL_X86PC: file} }

// image makes a kernel of random-looking bytes, which a loader transfers
// whole before it looks at them.
func (l *lab) image(n int) (size int) {
	b := bytes.Repeat([]byte("0123456789abcdef"), n/16)
	l.write("tftp/images/vmlinuz", string(b))
	l.write("tftp/images/all.rdz", string(b))
	return len(b)
}

func TestPXELINUXBootsLocalDisk(t *testing.T) {
	l := firmwareLab(t)
	srv := l.ready(serveSpec{DHCP: DHCPFull, BootFiles: bios("pxelinux.0")})
	l.boot(macA, "virtio-net-pci").says(diskSays)
	inOrder(t, srv, "[offer] pxelinux.0", "[address]", "[sent pxelinux.0 (TFTP)]", "[sent ldlinux.c32 (TFTP)]", "[sent boot configuration (TFTP)]")
	// PXELINUX asks by UUID first, and writes it byte for byte, not as
	// SMBIOS has it.
	if !strings.Contains(srv.output(), "name=00007777-3412-bc4a-8000-000000000001 answer=\"local boot\"") {
		t.Error("no answer for the UUID name")
	}
	if strings.Contains(srv.output(), "vmlinuz") {
		t.Error("a machine for its local disk got the kernel")
	}
}

func TestPXELINUXLoadsImage(t *testing.T) {
	l := firmwareLab(t)
	l.answers("* silent", macA+" image")
	size := l.image(4 << 20)
	srv := l.ready(serveSpec{DHCP: DHCPFull, Console: "console=ttyS0", Append: "ka.server=10.77.0.1", BootFiles: bios("pxelinux.0")})
	v := l.boot(macA, "virtio-net-pci")
	v.says("Loading images/vmlinuz")
	v.says("boot:") // it is no kernel
	for end := time.Now().Add(bootTime); strings.Count(srv.output(), "[sent vmlinuz (TFTP)]") < 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("PXELINUX never tried again")
		}
	}
	inOrder(t, srv, "EVENT "+macA, "[sent pxelinux.0 (TFTP)]", "[sent boot configuration (TFTP)]",
		fmt.Sprintf("[sent vmlinuz (TFTP)] images/vmlinuz %d", size), fmt.Sprintf("[sent all.rdz (TFTP)] images/all.rdz %d", size), "[sent vmlinuz (TFTP)]")
}

// The e1000's ROM and lpxelinux: only the loader itself comes by TFTP.
func TestLPXELINUXLoadsImageByHTTP(t *testing.T) {
	l := firmwareLab(t)
	l.answers("* silent", macA+" image")
	size := l.image(4 << 20)
	srv := l.ready(serveSpec{DHCP: DHCPFull, Console: "console=ttyS0", BootFiles: bios("lpxelinux.0")})
	l.boot(macA, "e1000").says("boot:")
	inOrder(t, srv, "[sent lpxelinux.0 (TFTP)]", "[sent ldlinux.c32 (HTTP)]", "[sent boot configuration (HTTP)]",
		fmt.Sprintf("[sent vmlinuz (HTTP)] images/vmlinuz %d", size), fmt.Sprintf("[sent all.rdz (HTTP)] images/all.rdz %d", size))
}

// iPXE as the ROM itself: a script, and no other loader.
func TestIPXEROM(t *testing.T) {
	t.Run("image", func(t *testing.T) {
		l := firmwareLab(t)
		l.answers("* silent", macA+" image")
		size := l.image(4 << 20)
		srv := l.ready(serveSpec{DHCP: DHCPFull, Console: "console=ttyS0", Append: "ka.server=10.77.0.1"})
		v := l.boot(macA, "e1000")
		v.says("kamethod: that failed, again in 10 seconds") // it is no kernel
		inOrder(t, srv, "[offer] http://10.77.0.1:8069/boot.ipxe-01-52-54-00-77-00-01", "[sent boot configuration (HTTP)]",
			fmt.Sprintf("[sent vmlinuz (HTTP)] images/vmlinuz %d", size))
		l.answers("* local") // it asks again what to do
		v.says(diskSays)
		if strings.Contains(srv.output(), "pxelinux") {
			t.Error("iPXE was sent another loader")
		}
	})
	t.Run("local disk", func(t *testing.T) {
		l := firmwareLab(t)
		srv := l.ready(serveSpec{DHCP: DHCPFull})
		l.boot(macA, "virtio-net-pci").says(diskSays)
		inOrder(t, srv, "[address]", "[sent boot configuration (HTTP)]")
	})
}

func TestROMByProxyBesideDnsmasq(t *testing.T) {
	for file, want := range map[string][]string{
		"pxelinux.0": {"[offer] pxelinux.0", "[sent pxelinux.0 (TFTP)]", "[sent boot configuration (TFTP)]"},
		"":           {"[offer] http://10.77.0.1:8069/boot.ipxe", "[sent boot configuration (HTTP)]"},
	} {
		t.Run("file "+file, func(t *testing.T) {
			l := firmwareLab(t)
			d := l.dnsmasq(l.host(macB, "10.77.0.2/24"), "eth0")
			srv := l.ready(serveSpec{DHCP: DHCPProxy, BootFiles: bios(file)})
			l.boot(macA, "virtio-net-pci").says(diskSays)
			inOrder(t, srv, want...)
			if strings.Contains(srv.output(), "[address") || !strings.Contains(d.output(), "DHCPACK(eth0) 10.77.0.5") {
				t.Errorf("want the lease of dnsmasq alone; it said\n%s", d.output())
			}
		})
	}
}

func TestROMGetsNoAnswerWhenSilent(t *testing.T) {
	l := firmwareLab(t)
	l.answers("* silent")
	srv := l.ready(serveSpec{DHCP: DHCPFull})
	l.boot(macA, "virtio-net-pci").says(diskSays) // the ROM gives up, the BIOS goes on
	if strings.Contains(srv.output(), "[offer]") || strings.Contains(srv.output(), "[sent") {
		t.Errorf("a silent machine got something:\n%s", srv.output())
	}
}
