package vmlab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Bus is what a disk hangs on; it decides what the disk is called inside.
type Bus string

// Buses.
const (
	VirtioBlk Bus = "virtio" // /dev/vda
	AHCI      Bus = "ahci"   // /dev/sda
	IDE       Bus = "ide"    // /dev/sda, by ata_piix
	SCSI      Bus = "scsi"   // /dev/sda, by virtio_scsi
	NVMe      Bus = "nvme"   // /dev/nvme0n1
)

// Disk is one disk of a machine.
type Disk struct {
	File   string  // raw image; made sparse with Size if missing
	Size   int64   // bytes
	Bus    Bus     // empty: VirtioBlk
	Sector int     // bytes of a logical block; 0: 512. VirtioBlk, SCSI and NVMe know 4096 too
	Serial string  // number; empty: QEMU's own, or none
	Rate   int64   // bytes a second that it reads and writes at most; 0: as they come
	Faults []Fault // what fails
}

// Fault makes a disk answer with EIO, again and again (QEMU's blkdebug).
type Fault struct {
	Op      string  // "read", "write", "flush" or "discard"
	Sectors []int64 // of 512 bytes, that a request must touch; empty: any request
}

// Create makes the image where there is none.
func (d Disk) Create() error {
	f, err := os.OpenFile(d.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(d.Size)
}

// DiskArgs are QEMU's arguments for disks; the first one is tried at boot
// after the network. The n-th has the device id "diskN".
func DiskArgs(disks []Disk) ([]string, error) {
	var args []string
	there := map[Bus]int{}
	for i, d := range disks {
		file, err := filepath.Abs(d.File) // so that nothing in it looks like a protocol of QEMU's
		if err != nil {
			return nil, err
		}
		node, more, err := d.blockdev(i, file)
		if err != nil {
			return nil, err
		}
		args = append(args, more...)
		args = append(args, "-blockdev", node)
		args = append(args, d.device(i, there[d.Bus])...)
		there[d.Bus]++
	}
	return args, nil
}

type dict = map[string]any

// blockdev describes the disk's image, and what stands before it:
//
//	raw ─▶ throttle ─▶ blkdebug ─▶ file
func (d Disk) blockdev(i int, file string) (node string, more []string, err error) {
	// A flush needn't reach the host's platter in a lab.
	lax := dict{"no-flush": true}
	at := dict{"driver": "file", "filename": file, "cache": lax, "discard": "unmap"}
	if len(d.Faults) > 0 {
		var rules []dict
		for _, f := range d.Faults {
			rules = append(rules, f.rules()...)
		}
		at = dict{"driver": "blkdebug", "image": at, "inject-error": rules, "cache": lax, "discard": "unmap"}
	}
	if d.Rate > 0 {
		group := fmt.Sprintf("rate%d", i)
		more = append(more, "-object", fmt.Sprintf("throttle-group,id=%s,x-bps-total=%d", group, d.Rate))
		at = dict{"driver": "throttle", "throttle-group": group, "file": at, "cache": lax, "discard": "unmap"}
	}
	b, err := json.Marshal(dict{"driver": "raw", "node-name": fmt.Sprintf("d%d", i), "file": at, "cache": lax, "discard": "unmap"})
	return string(b), more, err
}

// rules are blkdebug's: one for each sector, or one for all.
func (f Fault) rules() []dict {
	const eio = 5
	// Event "none" makes a rule that is in force from the beginning.
	rule := func() dict { return dict{"event": "none", "iotype": f.Op, "errno": eio, "once": false} }
	if len(f.Sectors) == 0 {
		return []dict{rule()}
	}
	var out []dict
	for _, s := range f.Sectors {
		r := rule()
		r["sector"] = s
		out = append(out, r)
	}
	return out
}

// device is the disk's side towards the machine; nth of its bus, from 0.
func (d Disk) device(i, nth int) []string {
	words := fmt.Sprintf(",id=disk%d,drive=d%d", i, i)
	boot := fmt.Sprintf(",bootindex=%d", 2+i) // the network card has 1
	if d.Serial != "" {
		words += ",serial=" + d.Serial
	}
	if d.Sector != 0 {
		words += fmt.Sprintf(",logical_block_size=%d,physical_block_size=%d", d.Sector, d.Sector)
	}
	var args []string
	switch d.Bus {
	case AHCI:
		if nth == 0 {
			args = []string{"-device", "ich9-ahci,id=ahci"}
		}
		return append(args, "-device", fmt.Sprintf("ide-hd,bus=ahci.%d", nth)+words+boot)
	case IDE: // two on a cable
		return []string{"-device", fmt.Sprintf("ide-hd,bus=ide.%d,unit=%d", nth/2, nth%2) + words + boot}
	case SCSI:
		if nth == 0 {
			args = []string{"-device", "virtio-scsi-pci,id=scsi"}
		}
		return append(args, "-device", "scsi-hd,bus=scsi.0"+words+boot)
	case NVMe:
		if d.Serial == "" { // it must have one
			words += fmt.Sprintf(",serial=nvme%d", i)
		}
		return []string{"-device", "nvme" + words + boot}
	}
	return []string{"-device", "virtio-blk-pci" + words + boot}
}
