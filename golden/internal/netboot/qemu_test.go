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

// These tests boot a real PXE ROM and the distribution's real PXELINUX. The
// disk holds a boot sector that prints a line.

const (
	pxelinuxROM = "/usr/lib/PXELINUX/pxelinux.0"
	ldlinux     = "/usr/lib/syslinux/modules/bios/ldlinux.c32"
	diskSays    = "BOOTED FROM THE LOCAL DISK"
	bootTime    = 3 * time.Minute // 8 s when the machine is idle
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
	serial string
}

func (l *lab) loader() {
	l.t.Helper()
	if testing.Short() {
		l.t.Skip("boots a virtual machine")
	}
	needs(l.t, "qemu-system-x86_64", "dnsmasq")
	for from, to := range map[string]string{pxelinuxROM: "pxelinux.0", ldlinux: "ldlinux.c32"} {
		b, err := os.ReadFile(from)
		if err != nil {
			l.t.Skipf("needs %s: scripts/deps-netboot-test.sh installs it", from)
		}
		l.write("tftp/"+to, string(b))
	}
	// QEMU's iPXE waits 13 s for a router advertisement otherwise.
	l.ip(l.srv, "-6 addr add fd77::1/64 dev br0 nodad")
	l.start(l.srv, nil, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root",
		"--enable-ra", "--dhcp-range=fd77::,ra-only,64", "--dhcp-leasefile="+filepath.Join(l.tmp, "ra.leases")).mustSee("router advertisement", 5*time.Second)
}

func (l *lab) boot(mac, nic string) *vm {
	l.t.Helper()
	n := len(mac) + len(l.hosts)
	tap := fmt.Sprintf("tap%d", n)
	l.ip(l.srv, "tuntap add dev "+tap+" mode tap")
	l.ip(l.srv, "link set "+tap+" master br0 up")
	disk := l.write("disk.img", string(append(bootSector(), make([]byte, 1<<20)...)))
	v := &vm{serial: filepath.Join(l.tmp, "serial.log")}
	v.process = l.start(l.srv, nil, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "pc,graphics=off", "-cpu", "qemu64", "-smp", "1", "-m", "256",
		"-nodefaults", "-no-user-config", "-display", "none", "-boot", "reboot-timeout=2000", "-uuid", "77770000-1234-4abc-8000-000000000001",
		"-serial", "file:"+v.serial, "-netdev", "tap,id=n0,ifname="+tap+",script=no,downscript=no",
		"-device", nic+",netdev=n0,mac="+mac+",bootindex=1",
		"-drive", "if=none,id=d0,format=raw,cache=unsafe,file="+disk, "-device", "virtio-blk-pci,drive=d0,bootindex=2")
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

// inOrder says that each event follows the one before.
func inOrder(t *testing.T, log string, events ...string) {
	t.Helper()
	rest := log
	for _, e := range events {
		i := strings.Index(rest, e)
		if i < 0 {
			t.Fatalf("no %q (in this order: %q) in\n%s", e, events, log)
		}
		rest = rest[i+len(e):]
	}
}

func TestROMBootsLocalDisk(t *testing.T) {
	l := newLab(t)
	l.loader()
	srv := l.ready(serveSpec{DHCP: DHCPFull})
	start := time.Now()
	l.boot(macA, "virtio-net-pci").says(diskSays)
	t.Logf("power on to local disk: %v", time.Since(start).Round(100*time.Millisecond))
	inOrder(t, srv.output(), "[offer] pxelinux.0", "[address]", "[sent pxelinux.0 (TFTP)]", "[sent ldlinux.c32 (TFTP)]", "[sent boot configuration (TFTP)]")
	// PXELINUX asks by UUID first, and writes it byte for byte, not as
	// SMBIOS has it.
	if !strings.Contains(srv.output(), "name=00007777-3412-bc4a-8000-000000000001 answer=\"local boot\"") {
		t.Error("no answer for the UUID name")
	}
	if strings.Contains(srv.output(), "vmlinuz") {
		t.Error("a machine for its local disk got the kernel")
	}
}

func TestROMLoadsImage(t *testing.T) {
	for _, nic := range []string{"virtio-net-pci", "e1000"} {
		t.Run(nic, func(t *testing.T) {
			l := newLab(t)
			l.loader()
			l.answers("* silent", macA+" image")
			size := len(l.image(4 << 20))
			srv := l.ready(serveSpec{DHCP: DHCPFull, Console: "console=ttyS0", Append: "ka.server=10.77.0.1"})
			start := time.Now()
			v := l.boot(macA, nic)
			v.says("Loading images/vmlinuz")
			srv.mustSee(fmt.Sprintf("[sent vmlinuz (TFTP)] images/vmlinuz %d", size), bootTime)
			t.Logf("power on to the end of the kernel: %v", time.Since(start).Round(100*time.Millisecond))
			v.says("boot:") // it is no kernel
			for end := time.Now().Add(bootTime); strings.Count(srv.output(), "[sent vmlinuz (TFTP)]") < 2; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("PXELINUX never tried again")
				}
			}
			inOrder(t, srv.output(), "EVENT "+macA, "[sent pxelinux.0 (TFTP)]", "[sent boot configuration (TFTP)]", "[sent vmlinuz (TFTP)]",
				fmt.Sprintf("[sent all.rdz (TFTP)] images/all.rdz %d", size), "[sent vmlinuz (TFTP)]")
		})
	}
}

// image makes a kernel of random-looking bytes, which PXELINUX transfers
// whole before it looks at them.
func (l *lab) image(n int) []byte {
	b := bytes.Repeat([]byte("0123456789abcdef"), n/16)
	l.write("tftp/images/vmlinuz", string(b))
	l.write("tftp/images/all.rdz", string(b))
	return b
}

func TestROMByProxyBesideDnsmasq(t *testing.T) {
	l := newLab(t)
	l.loader()
	d := l.dnsmasq(l.host(macB, "10.77.0.2/24"), "eth0")
	srv := l.ready(serveSpec{DHCP: DHCPProxy})
	l.boot(macA, "virtio-net-pci").says(diskSays)
	inOrder(t, srv.output(), "[offer] pxelinux.0", "[sent pxelinux.0 (TFTP)]", "[sent boot configuration (TFTP)]")
	if strings.Contains(srv.output(), "[address") || !strings.Contains(d.output(), "DHCPACK(eth0) 10.77.0.5") {
		t.Errorf("want the lease of dnsmasq alone; it said\n%s", d.output())
	}
}

func TestROMByProxyBesideISCDhcpd(t *testing.T) {
	needs(t, "dhcpd")
	l := newLab(t)
	l.loader()
	d := l.dhcpd(l.host(macB, "10.77.0.2/24"), "eth0")
	srv := l.ready(serveSpec{DHCP: DHCPProxy})
	l.boot(macA, "virtio-net-pci").says(diskSays)
	inOrder(t, srv.output(), "EVENT "+macA, "[offer]", "[sent boot configuration (")
	if strings.Contains(srv.output(), "[address") || !strings.Contains(d.output(), "DHCPACK on 10.77.0.5") {
		t.Errorf("want the lease of ISC dhcpd alone; it said\n%s", d.output())
	}
}

func TestROMGetsNoAnswerWhenSilent(t *testing.T) {
	l := newLab(t)
	l.loader()
	l.answers("* silent")
	srv := l.ready(serveSpec{DHCP: DHCPFull})
	l.boot(macA, "virtio-net-pci").says(diskSays) // the ROM gives up, the BIOS goes on
	if strings.Contains(srv.output(), "[offer]") || strings.Contains(srv.output(), "[sent") {
		t.Errorf("a silent machine got something:\n%s", srv.output())
	}
}
