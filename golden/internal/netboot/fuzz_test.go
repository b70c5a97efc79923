package netboot

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// FuzzDHCP throws bytes at the whole handler.
func FuzzDHCP(f *testing.F) {
	seed := func(m *dhcpv4.DHCPv4) { f.Add(m.ToBytes(), true) }
	for _, typ := range []dhcpv4.MessageType{1, 3, 4, 7, 8} {
		seed(pxe(f, typ))
		seed(pxe(f, typ, dhcpv4.WithClientIP(net.IPv4(10, 77, 0, 130)), dhcpv4.WithBroadcast(false)))
		seed(pxe(f, typ, dhcpv4.WithGatewayIP(net.IPv4(10, 77, 0, 9)), dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, bytes.Repeat([]byte{1}, 255))))
		seed(pxe(f, typ, dhcpv4.WithGeneric(dhcpv4.OptionClientIdentifier, bytes.Repeat([]byte{1}, 2000)))) // RFC 3396
		seed(pxe(f, typ, dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(52), []byte{3})))
	}
	f.Add([]byte{}, false)
	f.Add([]byte{}, true)
	full, proxy := offWire(f, DHCPFull, func(c Client) Answer { return Answer(c.MAC[5] % 3) }), offWire(f, DHCPProxy, nil2local)
	f.Fuzz(func(t *testing.T, b []byte, pxePort bool) {
		port := uint16(dhcpServerPort)
		if pxePort {
			port = proxyPort
		}
		for _, s := range []*Server{full, proxy} {
			o, err := s.handleDHCP(b, port, netip.MustParseAddrPort("10.77.0.60:68"), time.Now())
			if o == nil {
				continue
			}
			if err != nil || len(o.msg.ToBytes()) > maxDatagram || o.msg.OpCode != dhcpv4.OpcodeBootReply {
				t.Errorf("reply of %d bytes, error %v", len(o.msg.ToBytes()), err)
			}
			if s == proxy && v4(o.msg.YourIPAddr).IsValid() {
				t.Error("proxy gave an address")
			}
			if ip := v4(o.msg.YourIPAddr); ip.IsValid() && (s.plan.of(ip) == nil || !s.plan.of(ip).has(ip) && ip != addr("10.77.0.77")) {
				t.Errorf("address %v is not in the pool", ip)
			}
		}
		if n := len(full.leases.byMAC); n > 137 {
			t.Errorf("%d leases of pools of 137", n)
		}
	})
}

// FuzzNames asks for any name, from a stranger's address: only the list's
// bytes come back, or what was made for the machine that the name stands for.
// The token is for the one machine that is to boot the image.
func FuzzNames(f *testing.F) {
	for _, n := range []string{"pxelinux.0", "/pxelinux.0", `\images\vmlinuz`, "//images//vmlinuz", "../../etc/passwd", "images/../pxelinux.0",
		"pxelinux.cfg/default", "pxelinux.cfg/01-52-54-00-77-00-01", "pxelinux.cfg/0A4D000A", "pxelinux.cfg/77770000-0000-4000-8000-000000000001",
		"pxelinux.cfg/default-arm-bcm283x-rpi", "grub.cfg", "/grub/grub.cfg-01-52-54-00-77-00-01", "EFI/BOOT/grub.cfg-52:54:00:77:00:01",
		"grub/x86_64-efi/command.lst", "boot.ipxe", "arm64-efi/autoexec.ipxe", "boot.ipxe-01-52-54-00-77-00-02", "grub.cfg-0A4D00",
		"pxelinux.0\x00", "", ".", "/", strings.Repeat("a/", 200)} {
		f.Add(n)
	}
	const token = "ka.token=abc"
	s := offWire(f, DHCPFull, func(c Client) Answer {
		switch {
		case bytes.Equal(c.MAC, hw(1)):
			return BootImage
		case c.MAC[5] == 2:
			return Silent
		}
		return LocalBoot
	})
	s.cfg.Append = token
	for i := range 3 {
		s.seen.put(Client{MAC: hw(byte(i + 1))}, true)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := s.lookup(name, addr("10.77.0.60"))
		if err != nil {
			return
		}
		b, err := io.ReadAll(got.content)
		if err != nil || int64(len(b)) != got.size {
			t.Fatalf("%q: %d bytes, said %d, %v", name, len(b), got.size, err)
		}
		want := map[string]string{"pxelinux.0": "loader", "images/vmlinuz": "kernel"}[got.name]
		if got.config {
			d, key, _ := configName(got.name)
			c := got.client
			if c.MAC == nil && !strings.HasPrefix(key, "default") {
				c.MAC = hw(9) // a name, of whom nothing was heard
			}
			want = string(s.configText(d, c, got.answer))
			armed := bytes.Equal(got.client.MAC, hw(1))
			if armed != (got.answer == BootImage) || armed != strings.Contains(want, token) {
				t.Errorf("%q: answer %v for %v:\n%s", name, got.answer, got.client.MAC, b)
			}
		}
		if string(b) != want || strings.Contains(name, "..") && !strings.Contains(name, "...") {
			t.Errorf("%q gave %q", name, b)
		}
	})
}

// FuzzLeaseFile reads any journal.
func FuzzLeaseFile(f *testing.F) {
	f.Add([]byte(`{"mac":"52:54:00:77:00:01","ip":"10.77.0.130","until":"2026-11-21T00:00:00Z"}` + "\n"))
	f.Add([]byte("{\n{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ls, err := readLeases(bytes.NewReader(b), slog.New(slog.DiscardHandler))
		for _, l := range ls {
			if !l.ip.Is4() {
				t.Errorf("lease of %v, %v", l.ip, err)
			}
		}
	})
}

// FuzzDatagram reads any packet.
func FuzzDatagram(f *testing.F) {
	f.Add(datagram{src: netip.MustParseAddrPort("0.0.0.0:68"), dst: netip.MustParseAddrPort("255.255.255.255:67"), payload: []byte("x")}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseDatagram(b); err == nil && len(d.payload) > len(b) {
			t.Error("payload longer than the packet")
		}
	})
}
