package templates

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestLocalDiskList: GRUB looks for the same boot loaders whoever served it,
// golden-serve or a foreign TFTP server.
func TestLocalDiskList(t *testing.T) {
	made, err := Netboot{}.GRUBConfig()
	if err != nil {
		t.Fatal(err)
	}
	static, err := os.ReadFile("image/tftp/grub/grub.cfg")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`for f in (/EFI/[^;]*);`)
	var lists [2]string
	for i, text := range [][]byte{made, static} {
		m := list.FindSubmatch(text)
		if m == nil {
			t.Fatalf("no list of boot loaders in\n%s", text)
		}
		lists[i] = string(m[1])
	}
	if lists[0] != lists[1] {
		t.Errorf("two lists:\n%s\n%s", lists[0], lists[1])
	}
	for _, want := range []string{"grubx64.efi", "grubaa64.efi", "BOOTX64.EFI", "BOOTAA64.EFI", "BOOTIA32.EFI", "BOOTRISCV64.EFI", "bootmgfw.efi"} {
		if !strings.Contains(lists[0], "/"+want) {
			t.Errorf("no %s in the list", want)
		}
	}
}
