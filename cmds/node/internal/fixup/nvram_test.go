package fixup

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sampleNVRAM = "BootCurrent: 0003\nTimeout: 0 seconds\nBootOrder: 0003,0004,0001,0000,0007\n" +
	"Boot0000* UiApp\tFvVol(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(462caa21-7614-4503-836e-8ab6f4662331)\n" +
	"Boot0001* debian\tHD(1,GPT,aaaaaaaa-0000-4000-8000-999999999901,0x800,0x100000)/File(\\EFI\\debian\\shimx64.efi)\n" +
	"Boot0003* UEFI PXEv4 (MAC:525400123456)\tPciRoot(0x0)/Pci(0x3,0x0)/MAC(525400123456,1)/IPv4(0.0.0.00.0.0.0,0,0){auto_created_boot_option}\n" +
	"Boot0004* UEFI HTTPv4\tPciRoot(0x0)/Pci(0x3,0x0)/MAC(525400123456,1)/IPv4(0.0.0.00.0.0.0,0,0)/Uri()\n" +
	"Boot0005  old\tHD(1,GPT,cccccccc-0000-4000-8000-999999999901,0x800,0x100000)/\\EFI\\DEBIAN\\SHIMX64.EFI\n" +
	"Boot0007* UEFI Misc Device\tPciRoot(0x0)/Pci(0x4,0x0){auto_created_boot_option}\n"

func TestNVRAM(t *testing.T) {
	n := parseNVRAM(sampleNVRAM)
	if len(n.entries) != 6 || n.entries[3].label != "UEFI HTTPv4" {
		t.Errorf("entries %+v", n.entries)
	}
	var stale []string
	for _, e := range n.stale("debian", `\EFI\debian\shimx64.efi`, nil) {
		stale = append(stale, e.number)
	}
	if d := cmp.Diff([]string{"0001", "0005"}, stale); d != "" {
		t.Errorf("stale (-want +got)\n%s", d)
	}
	if got := n.stale("debian", `\EFI\debian\shimx64.efi`, map[string]bool{"aaaaaaaa-0000-4000-8000-999999999901": true}); len(got) != 1 || got[0].number != "0005" {
		t.Errorf("stale beside another disk's system: %+v", got)
	}
	for _, tt := range []struct{ name, order, want string }{
		{"the network first", "0003,0004,0001,0000", "0003,0004,0009,0001,0000"},
		{"the network first, and once more behind", "0003,0001,0004", "0003,0009,0001,0004"},
		{"a disk first", "0001,0003,0004", "0009,0001,0003,0004"},
		{"already there, first", "0009,0003,0004", "0003,0004,0009"},
		{"already there, right", "0003,0004,0009,0000", "0003,0004,0009,0000"},
		{"the firmware's setup, then the network", "0000,0003,0001", "0000,0003,0009,0001"},
		{"the firmware's setup, then a disk", "0000,0001,0003", "0009,0000,0001,0003"},
		{"nothing else", "0009", "0009"},
		{"an entry that isn't there any more", "0042,0003", "0003,0009"},
		{"one of them twice", "0003,0001,0000,0000", "0003,0009,0001,0000"},
	} {
		n.order = strings.Split(tt.order, ",")
		if got := strings.Join(n.placed("0009"), ","); got != tt.want {
			t.Errorf("%s: %s became %s, want %s", tt.name, tt.order, got, tt.want)
		}
	}
}

func FuzzNVRAM(f *testing.F) {
	f.Add(sampleNVRAM)
	f.Add("Boot00FF* \t\nBootOrder: ,,")
	f.Fuzz(func(t *testing.T, text string) {
		n := parseNVRAM(text)
		order := n.placed("00FF")
		if i := slices.Index(order, "00FF"); i < 0 || slices.Contains(order[i+1:], "00FF") {
			t.Fatalf("order %q of %q", order, n.order)
		}
		n.stale("x", "y", nil)
	})
}
