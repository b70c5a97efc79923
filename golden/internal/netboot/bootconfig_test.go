package netboot

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestWhoIsToldToBoot: a name alone has nobody decided about, and arms nobody:
// the firmware of that machine must have asked by DHCP before.
func TestWhoIsToldToBoot(t *testing.T) {
	const name = "boot.ipxe-01-52-54-00-77-00-01"
	for _, mode := range []string{DHCPFull, DHCPProxy, DHCPOff} {
		loading := 0
		s := offWire(t, mode, func(c Client) Answer {
			if c.Loading {
				loading++
			}
			return BootImage
		})
		s.cfg.Append = "ka.token=abc"
		get := func() (*served, string) {
			f, err := s.lookup(name, addr("10.77.0.60"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(f.content)
			if err != nil {
				t.Fatal(err)
			}
			return f, string(b)
		}
		f, text := get()
		if mode == DHCPOff { // we can't hear anybody
			if !strings.Contains(text, "ka.token=abc") || loading != 1 {
				t.Errorf("%s: asked %d times, and a machine is told\n%s", mode, loading, text)
			}
			continue
		}
		if strings.Contains(text, "token") || f.answer != LocalBoot || f.client.MAC != nil || loading != 0 {
			t.Errorf("%s: asked %d times, and a name is told %v, of %v:\n%s", mode, loading, f.answer, f.client.MAC, text)
		}
		ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithoutOption(dhcpv4.OptionClassIdentifier))) // an installed system
		if _, text = get(); strings.Contains(text, "token") {
			t.Errorf("%s: a system that boots nothing is told\n%s", mode, text)
		}
		ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover))
		if f, text = get(); !strings.Contains(text, "ka.token=abc") || f.client.MAC.String() != macA || loading != 1 {
			t.Errorf("%s: asked %d times, and firmware is told, of %v:\n%s", mode, loading, f.client.MAC, text)
		}
	}
}

func TestNeededFiles(t *testing.T) {
	for names, want := range map[string]string{
		"pxelinux.0":             "[ldlinux.c32 images/vmlinuz images/all.rdz]",
		"lpxelinux.0":            "[ldlinux.c32 images/vmlinuz images/all.rdz]",
		"grubx64.efi pxe/ipxe.0": "[images/vmlinuz images/all.rdz]",
	} {
		f := Files{}
		for _, name := range strings.Fields(names) {
			f[name] = OnDisk(name)
		}
		if got := fmt.Sprint(NeededFiles(f.Has)); got != want {
			t.Errorf("%s: %s are needed, want %s", names, got, want)
		}
	}
}

// TestAnothersName: who is known by its lease hears what is for itself only.
func TestAnothersName(t *testing.T) {
	s := offWire(t, DHCPFull, func(Client) Answer { return BootImage })
	var at [3]netip.Addr
	for i := range at {
		at[i] = v4(ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(hw(byte(i+1))))).msg.YourIPAddr)
	}
	hex := func(a netip.Addr) string { return fmt.Sprintf("%X", a.AsSlice()) }
	for name, want := range map[string]bool{
		"pxelinux.cfg/01-52-54-00-77-00-01": true, "grub/grub.cfg-52:54:00:77:00:01": true, "pxelinux.cfg/" + hex(at[0]): true,
		"pxelinux.cfg/01-52-54-00-77-00-02": false, "boot.ipxe-01-52-54-00-77-00-02": false, "pxelinux.cfg/" + hex(at[1]): false,
		"pxelinux.cfg/01-02-6b-61-64-6f-63": true, // doctor's
	} {
		if f, err := s.lookup(name, at[0]); (err == nil) != want {
			t.Errorf("%s: %+v, %v, want it found: %v", name, f, err, want)
		}
	}
	// Of who comes from elsewhere nobody knows.
	if _, err := s.lookup("pxelinux.cfg/01-52-54-00-77-00-02", addr("10.79.0.9")); err != nil {
		t.Error(err)
	}
}
