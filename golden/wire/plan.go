package wire

import "github.com/kamethod/kamethod/golden/layout"

// Plan is what a node does to itself in stage 2. Golden makes one plan for
// the whole deployment and each node carries it out on its own disks.
type Plan struct {
	Disks       []DiskPlan   `json:"disks"`
	Filesystems []Filesystem `json:"filesystems"`
	Excludes    []string     `json:"excludes,omitempty"` // absolute; recreated empty
	Loader      Loader       `json:"loader"`
	Golden      Golden       `json:"golden"`
	Identity    Identity     `json:"identity"`
	Update      bool         `json:"update,omitempty"` // disks that hold an earlier clone keep partitions and file systems, if they are the same
}

// DiskPlan is the layout of one disk of the golden node, by its golden name.
type DiskPlan struct {
	Name   string      `json:"name"` // "sda", as on the golden node: a role, not the node's device
	Layout layout.Disk `json:"layout"`
}

// Filesystem is one file system or swap area to make.
type Filesystem struct {
	Disk       int      `json:"disk"`                  // index into Plan.Disks
	Part       int      `json:"part"`                  // partition number
	Type       string   `json:"type"`                  // "ext2", "ext3", "ext4", "swap", VFAT
	Label      string   `json:"label,omitempty"`       // kept on the clone
	MountPoint string   `json:"mount_point,omitempty"` // "/", "/var"; empty for swap
	OldUUID    string   `json:"old_uuid,omitempty"`    // on the golden node, replaced in the clone's files
	OldPartID  string   `json:"old_part_id,omitempty"` // PARTUUID on the golden node
	OldDevice  string   `json:"old_device,omitempty"`  // "/dev/sda1" as golden's fstab calls it
	Features   []string `json:"features,omitempty"`    // mkfs -O, as golden has them; empty: mkfs's defaults
	InodeSize  int      `json:"inode_size,omitempty"`  // bytes; 0: mkfs's default
	BlockSize  int      `json:"block_size,omitempty"`  // bytes; 0: mkfs's default
	NeedBytes  int64    `json:"need_bytes,omitempty"`  // what golden's files take there
	NeedInodes int64    `json:"need_inodes,omitempty"` // how many entries golden has there
}

// VFAT is the type of an EFI system partition.
const VFAT = "vfat"

// Firmware that a machine has.
const (
	BIOS = "bios"
	UEFI = "uefi"
)

// Loader is the boot loader of the clone and the modules its initrd must have.
type Loader struct {
	Kind string   `json:"kind"` // "grub", or "none"
	With []string `json:"with,omitempty"`
	Lack []Lack   `json:"lack,omitempty"` // why it can't be installed for a machine with such a firmware
}

// Lack is why a plan can't be carried out on a machine with some firmware.
type Lack struct {
	Firmware string `json:"firmware"` // BIOS or UEFI
	Why      string `json:"why"`      // in words that say what to do
}

// Refuses is why a machine with that firmware can't boot what the plan makes
// of it; empty: it can, or nothing speaks against it.
func (l Loader) Refuses(firmware string) string {
	for _, k := range l.Lack {
		if k.Firmware == firmware {
			return k.Why
		}
	}
	return ""
}

// Golden is what identifies the golden node, so that a clone can be rid of it.
type Golden struct {
	Hostname  string `json:"hostname,omitempty"`
	MachineID string `json:"machine_id,omitempty"`
}

// Identity is how the clones are named.
type Identity struct {
	Hostname string `json:"hostname,omitempty"` // template with one %d or %03d: the node's number; empty: "node%d"
}

// DiskResult says where a plan ended up on a node.
type DiskResult struct {
	Disks       []string           `json:"disks"`          // node's device for each Plan.Disks: "/dev/vda"
	Filesystems []FilesystemResult `json:"filesystems"`    // same order as Plan.Filesystems
	Kept        bool               `json:"kept,omitempty"` // by Plan.Update: an earlier clone's files are there
}

// FilesystemResult is one file system as made on the node.
type FilesystemResult struct {
	Device string `json:"device"` // "/dev/vda1"
	UUID   string `json:"uuid"`
	PartID string `json:"part_id,omitempty"` // PARTUUID
}
