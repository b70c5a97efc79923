package join

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// memory is the machine's, in bytes; a gigabyte where the kernel won't say.
func memory() int64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 1 << 30
	}
	return int64(si.Totalram) * int64(si.Unit)
}

// SystemUUID is the machine's SMBIOS UUID, where its firmware has one
// (Documentation/ABI/testing/sysfs-firmware-dmi-entries).
func SystemUUID() string {
	b, err := os.ReadFile("/sys/class/dmi/id/product_uuid")
	if err != nil {
		return ""
	}
	return strings.ToLower(string(bytes.TrimSpace(b)))
}

// Firmware is what started this machine: the kernel has this folder after UEFI
// only (drivers/firmware/efi/efi.c).
func Firmware() string {
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		return wire.UEFI
	}
	return wire.BIOS
}
