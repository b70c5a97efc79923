package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/kamethod/kamethod/golden/wire"
)

// sealSize is what makes a FAT one: its boot sector's first 512 bytes, on disks
// with larger sectors too. What follows is written to while it is mounted.
const sealSize = 512

// Seal hides the EFI system partitions from the firmware: golden's boot loader
// comes there with golden's other files, in any order, and half a system must
// not be started by it. Their first 512 bytes, which the kernel doesn't need
// once they are mounted, are kept in the folder dir and zeros on the disk.
//
//	mkfs.vfat ─▶ mount ─▶ Seal ─▶ files, fix-up ─▶ Unseal ─▶ boot loader ─▶ Unmount
//
// What is sealed stays so.
func Seal(plan wire.Plan, made wire.DiskResult, dir string) error {
	return eachESP(plan, made, dir, func(f *os.File, start []byte, keep string) error {
		if !signed(start) {
			return nil
		}
		if err := renameio.WriteFile(keep, start, 0o600); err != nil {
			return err
		}
		_, err := f.WriteAt(make([]byte, sealSize), 0)
		return err
	})
}

// Unseal gives the EFI system partitions that Seal has hidden their start
// back, mounted or not.
func Unseal(plan wire.Plan, made wire.DiskResult, dir string) error {
	return eachESP(plan, made, dir, func(f *os.File, start []byte, keep string) error {
		if signed(start) {
			return nil
		}
		was, err := os.ReadFile(keep)
		if err != nil {
			return err
		}
		if len(was) != sealSize || !signed(was) {
			return fmt.Errorf("%s holds no start of a FAT", keep)
		}
		_, err = f.WriteAt(was, 0)
		return err
	})
}

// signed says whether a disk's or partition's first sector is marked as one
// that boots, or is a FAT's (Microsoft's FAT specification, "Signature_word").
func signed(start []byte) bool { return start[510] == 0x55 && start[511] == 0xaa }

func eachESP(plan wire.Plan, made wire.DiskResult, dir string, do func(f *os.File, start []byte, keep string) error) error {
	for i, fs := range plan.Filesystems {
		if fs.Type != wire.VFAT || i >= len(made.Filesystems) {
			continue
		}
		dev := made.Filesystems[i].Device
		keep := filepath.Join(dir, "esp-"+strings.ReplaceAll(strings.TrimPrefix(dev, "/dev/"), "/", "-"))
		err := editStart(dev, func(f *os.File, start []byte) error { return do(f, start, keep) })
		if err != nil {
			return fmt.Errorf("EFI system partition %s: %w", dev, err)
		}
	}
	return nil
}

// editStart has do look at the first 512 bytes of a device and write to it,
// and waits until that is on the disk.
func editStart(dev string, do func(f *os.File, start []byte) error) (err error) {
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	start := make([]byte, sealSize)
	if _, err := f.ReadAt(start, 0); err != nil {
		return fmt.Errorf("read its start: %w", err)
	}
	if err := do(f, start); err != nil {
		return err
	}
	return f.Sync()
}
