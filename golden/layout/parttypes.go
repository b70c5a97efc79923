package layout

import (
	"fmt"
	"slices"
)

// MBR partition types, as sfdisk -T lists them.
const (
	TypeExtended      = 0x05
	TypeExtendedLBA   = 0x0f
	TypeLinuxSwap     = 0x82
	TypeLinux         = 0x83
	TypeLinuxExtended = 0x85

	typeESP        = 0xef
	typeNonFS      = 0xda
	typeNTFS       = 0x07 // and exFAT
	typeLVM        = 0x8e
	typeLUKS       = 0xe8
	typeRAID       = 0xfd
	typeProtective = 0xee // marks the disk as a GPT
)

// GPT partition types (UEFI specification, table 5-7; Discoverable Partitions
// Specification; GRUB manual, "BIOS installation").
const (
	GUIDLinux    = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	GUIDSwap     = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
	GUIDBIOSBoot = "21686148-6449-6E6F-744E-656564454649"
	GUIDESP      = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	GUIDLVM      = "E6D6D379-F507-44C2-A23C-238F2A3DF928"
	GUIDRAID     = "A19D880F-05FC-4D3B-A006-743F0F84911E"
	GUIDLUKS     = "CA7D7CCB-63ED-4C53-861C-1742536059CC"

	guidBootLoader = "BC13C2FF-59E6-4262-A352-B275FD6F7172" // /boot, Discoverable Partitions Specification

	guidData     = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7" // Windows's, which Linux had no own for at first
	guidReserved = "E3C9E316-0B5C-4DB8-817D-F92DF00215AE" // Windows's
)

// linuxGUIDs are the types of what Linux has its files on (Discoverable
// Partitions Specification), but for what boot loaders start from.
func linuxGUIDs() []string {
	return []string{
		GUIDLinux,
		"933AC7E1-2EB4-4F13-B844-0E14E2AEF915", // /home
		"3B8F8425-20E0-4F3B-907F-1A25A76F98E8", // /srv
		"4D21B016-B534-45C2-A9FB-5C16E091FD2D", // /var
		"7EC6F557-3BC5-4ACA-B293-16EF5DF639D1", // /var/tmp
		"773F91EF-66D4-49B5-BD83-D683BF40AD16", // a user's home
		"44479540-F297-41B2-9AF7-D131D5F0458A", // /, x86
		"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", // /, x86-64
		"69DAD710-2CE4-4E3C-B16C-21A1D49ABED3", // /, 32-bit ARM
		"B921B045-1DF0-41C3-AF44-4C6F280D3FAE", // /, 64-bit ARM
		"72EC70A6-CF74-40E6-BD49-4BDA08E8F224", // /, 64-bit RISC-V
		"75250D76-8CC6-458E-BD66-BD47CC81A812", // /usr, x86
		"8484680C-9521-48C6-9C11-B0720656F69E", // /usr, x86-64
		"7D0359A3-02B3-4F0A-865C-654403E70625", // /usr, 32-bit ARM
		"B0E01050-EE5F-4390-949A-9101B17104E9", // /usr, 64-bit ARM
		"BEAEC34B-8442-439B-A40B-984381ED097D", // /usr, 64-bit RISC-V
	}
}

const mib = 1 << 20

// How many partitions a table can name: libfdisk's MAXIMUM_PARTS for an MBR,
// the usual 128 entries of a GPT.
const (
	maxMBR = 60
	maxGPT = 128
)

// MB is a size as a person reads it in a desc: megabytes of 2^20 bytes.
func MB(bytes int64) int64 { return bytes / mib }

func extendedType(t byte) bool {
	return t == TypeExtended || t == TypeExtendedLBA || t == TypeLinuxExtended
}

// fromGUID is the MBR type that stands for a GPT type which is no Linux file
// system's. GPT has a type for each use of those (root, /home, /var), so that
// all the rest count as Linux.
func fromGUID(guid string) byte {
	switch guid {
	case GUIDSwap:
		return TypeLinuxSwap
	case GUIDESP:
		return typeESP
	case GUIDBIOSBoot:
		return typeNonFS // "Non-FS data": an MBR has no such thing
	case guidData, guidReserved:
		return typeNTFS
	case GUIDLVM:
		return typeLVM
	case GUIDRAID:
		return typeRAID
	case GUIDLUKS:
		return typeLUKS
	}
	return TypeLinux
}

// toGUID is the GPT type for an MBR type, where there is one: what fromGUID
// turns back, and Windows's type of all its file systems for FAT's many.
func toGUID(t byte) (string, bool) {
	switch t {
	case TypeLinux:
		return GUIDLinux, true
	case TypeLinuxSwap:
		return GUIDSwap, true
	case typeESP:
		return GUIDESP, true
	case typeNonFS:
		return GUIDBIOSBoot, true
	case typeNTFS, 0x01, 0x04, 0x06, 0x0b, 0x0c, 0x0e:
		return guidData, true
	case typeLVM:
		return GUIDLVM, true
	case typeRAID:
		return GUIDRAID, true
	case typeLUKS:
		return GUIDLUKS, true
	}
	return "", false
}

// mbrType is the partition's type as an MBR has it.
func (p Part) mbrType() byte {
	if p.GUID != "" {
		return fromGUID(p.GUID)
	}
	return p.Type
}

// IsSwap says whether the partition is for swap.
func (p Part) IsSwap() bool { return p.mbrType() == TypeLinuxSwap }

// IsLinux says whether the partition is for a Linux file system. A GPT's type
// that isn't known to be one may be anybody's, such as Windows's recovery.
func (p Part) IsLinux() bool {
	if p.GUID != "" {
		return p.Kind != Extended && (p.GUID == guidBootLoader || slices.Contains(linuxGUIDs(), p.GUID))
	}
	return p.Kind != Extended && p.Type == TypeLinux
}

// IsESP says whether the partition is for a UEFI firmware to start from.
func (p Part) IsESP() bool { return p.mbrType() == typeESP }

// word is the partition's type as a desc has it.
func (p Part) word(t Table) string {
	switch {
	case t == GPT && p.IsESP():
		return "efi"
	case p.Kind == Extended:
		return "extended"
	case p.IsSwap():
		return "swap"
	case p.mbrType() == TypeLinux: // a desc has no word for another type of GPT's
		return "linux"
	}
	return fmt.Sprintf("type%x", p.mbrType())
}
