package vmlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Firmware is what a machine starts with.
type Firmware string

// Firmware: SeaBIOS, or OVMF from Debian's package ovmf.
const (
	BIOS       Firmware = ""
	UEFI       Firmware = "uefi"
	SecureBoot Firmware = "secure-boot" // UEFI with Microsoft's keys, which starts nothing unsigned
)

// ovmf is where the package has its files. The 4M builds are those of Debian
// 12 and later.
const ovmf = "/usr/share/OVMF/"

// images are the firmware's code and the variables it is delivered with.
func (f Firmware) images() (code, variables string) {
	if f == SecureBoot {
		return ovmf + "OVMF_CODE_4M.ms.fd", ovmf + "OVMF_VARS_4M.ms.fd"
	}
	return ovmf + "OVMF_CODE_4M.fd", ovmf + "OVMF_VARS_4M.fd"
}

// machine is QEMU's -machine.
func (f Firmware) machine() string {
	switch f {
	case BIOS:
		return "pc"
	case SecureBoot:
		return "q35,smm=on" // only the firmware may write its variables
	}
	return "q35"
}

// nicBoot is a network card's place in the boot order, and with UEFI that it
// has no boot ROM of its own (iPXE's): the firmware's network stack is used.
func (s Spec) nicBoot() string {
	words := ",bootindex=1"
	if s.OwnDisk {
		words = ""
	}
	if s.Firmware != BIOS {
		words += ",romfile="
	}
	return words
}

// variables is the file with a machine's own firmware variables, which live as
// long as its disk.
func (l *Lab) variables(spec Spec) string { return filepath.Join(l.Config.Dir, spec.Name+".vars") }

func (l *Lab) makeVariables(spec Spec) error {
	if spec.Firmware == BIOS {
		return nil
	}
	name := l.variables(spec)
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	_, from := spec.Firmware.images()
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start a machine with %s: %w: package ovmf", spec.Firmware, err)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o600)
}

func (l *Lab) firmwareArgs(spec Spec) []string {
	if spec.Firmware == BIOS {
		return nil
	}
	code, _ := spec.Firmware.images()
	args := []string{
		"-drive", "if=pflash,format=raw,readonly=on,file=" + code,
		"-drive", "if=pflash,format=raw,file=" + l.variables(spec),
	}
	if spec.Firmware == SecureBoot {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if spec.HTTPBoot { // OvmfPkg/RUNTIME CONFIGURATION.md: which protocols the network cards get
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n",
			"-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
	}
	return args
}
