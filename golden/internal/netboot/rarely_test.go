package netboot

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// TestLogOfAFlood: what each packet could write is written once a second.
func TestLogOfAFlood(t *testing.T) {
	const packets = 300
	for name, mods := range map[string][]dhcpv4.Modifier{
		"address refused": {dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(192, 168, 1, 9)))},
		"a machine chose another DHCP server": {dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, 2)))},
		"no boot file for this firmware": {dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_ARM64)), dhcpv4.WithoutOption(dhcpv4.OptionUserClassInformation)},
	} {
		s := offWire(t, DHCPFull, nil2local)
		var log bytes.Buffer
		s.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		start := time.Now()
		for i := range packets {
			ask(t, s, pxe(t, dhcpv4.MessageTypeDiscover, append(mods, dhcpv4.WithHwAddr(hw(byte(i))))...))
		}
		if n, most := strings.Count(log.String(), name), int(time.Since(start)/time.Second)+2; n == 0 || n > most {
			t.Errorf("%q is said %d times by %d packets, want 1 to %d:\n%s", name, n, packets, most, &log)
		}
	}
}
