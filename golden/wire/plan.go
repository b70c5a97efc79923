package wire

import (
	"fmt"

	"github.com/kamethod/kamethod/golden/layout"
)

// Plan is what a node does to itself in stage 2. Golden makes one plan for
// the whole deployment and each node carries it out on its own disks.
type Plan struct {
	Disks       []DiskPlan   `json:"disks"`
	Stack       layout.Stack `json:"stack,omitzero"` // what is made of the disks' partitions
	Secrets     []Secret     `json:"secrets,omitempty"`
	Filesystems []Filesystem `json:"filesystems"`
	Blocks      []Blocks     `json:"blocks,omitempty"`
	Copies      []Copy       `json:"copies,omitempty"` // all that is done, where there are any: nothing else is made or fixed up
	Mounts      []Mount      `json:"mounts,omitempty"` // for Copies
	Hooks       []Hook       `json:"hooks,omitempty"`
	Excludes    []string     `json:"excludes,omitempty"` // absolute; recreated empty
	Loader      Loader       `json:"loader"`
	Golden      Golden       `json:"golden"`
	Identity    Identity     `json:"identity"`
	Update      bool         `json:"update,omitempty"` // disks that hold an earlier clone keep partitions and file systems, if they are the same
}

// DiskPlan is the layout of one disk of the golden node, by its golden name.
type DiskPlan struct {
	Name     string       `json:"name"` // "sda", as on the golden node: a role, not the node's device
	Layout   layout.Disk  `json:"layout"`
	Match    layout.Match `json:"match,omitzero"`      // which disk of the node; zero: by name, or the only one
	BootCode []byte       `json:"boot_code,omitempty"` // for the first 446 bytes, before the table (-m, -M); empty: none is written
}

// Place finds the disk, by its index, and the partition of the plan that a
// name is of; 0 is the disk as a whole.
func (p Plan) Place(name string) (disk, part int, ok bool) {
	for i, d := range p.Disks {
		if d.Name == name {
			return i, 0, true
		}
		for _, x := range d.Layout.Parts {
			if layout.PartitionName(d.Name, x.Number) == name {
				return i, x.Number, true
			}
		}
	}
	return 0, 0, false
}

// Suits tells whether the plan is of the kind that a machine was booted for, by
// the last word of its boot line; without such a word, any is.
func (p Plan) Suits(replication string) error {
	copies, dolly := len(p.Copies) > 0, replication == DollyMethod || replication == DollyCMethod
	switch {
	case replication == "" || copies == dolly:
		return nil
	case copies:
		return fmt.Errorf("this machine booted with %s, and golden-serve dolly sends disks and files here: boot it with %s, or start golden-serve clone; nothing was touched", replication, DollyMethod)
	}
	return fmt.Errorf("this machine booted with %s, and golden-serve clone replaces whole machines here: boot it with %s, or start golden-serve dolly; nothing was touched", replication, KaMethod)
}

// BootCodeSize is what a boot record has before its partition table, in bytes
// (Microsoft's MBR, as every BIOS boot loader keeps to it).
const BootCodeSize = 446

// Secret opens a LUKS container of the plan.
type Secret struct {
	Crypt      string `json:"crypt"` // layout.Crypt's name
	Passphrase []byte `json:"passphrase"`
}

// MaxPassphrase is what cryptsetup reads of a passphrase at most, in bytes
// (cryptsetup(8), "Notes on passphrase processing for LUKS").
const MaxPassphrase = 512

// Blocks is a partition or volume that is copied as blocks, whatever is on it
// (-D, and file systems that can't be made and filled).
type Blocks struct {
	On    string `json:"on"`             // "sda3", "vg0/data": as on the golden node, without /dev/
	Type  string `json:"type,omitempty"` // of its contents, as blkid calls it: "ntfs"
	Bytes int64  `json:"bytes"`          // that golden's has; the clone's has to be as large at least
	How   string `json:"how"`            // BlocksUsed, BlocksNonzero or BlocksRaw: which of its blocks come

	OldUUID string `json:"old_uuid,omitempty"` // of its contents, replaced in the clone's files where the clone's get another
}

// Which blocks come, and what the others are on the clone.
const (
	BlocksUsed    = "used"    // those that the file system uses; the others are what they were
	BlocksNonzero = "nonzero" // those that aren't all zeros; the others are zeros
	BlocksRaw     = "raw"     // all
)

// Hook is a program of the administrator's that runs in the clone, after
// everything else but the boot loader.
type Hook struct {
	Name    string `json:"name"` // its file's, in post.d: they run in the order of the names
	Content []byte `json:"content"`
}

// Filesystem is one file system or swap area to make.
type Filesystem struct {
	On         string   `json:"on,omitempty"`          // what of Plan.Stack it is on: "md0", "vg0/root", "mapper/crypt"; empty: a partition
	Disk       int      `json:"disk"`                  // index into Plan.Disks, where On is empty
	Part       int      `json:"part"`                  // partition number; 0: the disk as a whole
	Type       string   `json:"type"`                  // "ext2", "ext3", "ext4", "xfs", "jfs", "reiserfs", "btrfs", "f2fs", "swap", VFAT
	Label      string   `json:"label,omitempty"`       // kept on the clone
	MountPoint string   `json:"mount_point,omitempty"` // "/", "/var"; empty for swap
	OldUUID    string   `json:"old_uuid,omitempty"`    // on the golden node, replaced in the clone's files
	OldPartID  string   `json:"old_part_id,omitempty"` // PARTUUID on the golden node
	OldDevice  string   `json:"old_device,omitempty"`  // "/dev/sda1" as golden's fstab calls it
	Features   []string `json:"features,omitempty"`    // as golden has them, in mkfs's words (-O; "reflink=1" for xfs's -m); empty: mkfs's defaults
	InodeSize  int      `json:"inode_size,omitempty"`  // bytes; 0: mkfs's default
	BlockSize  int      `json:"block_size,omitempty"`  // bytes; 0: mkfs's default
	NeedBytes  int64    `json:"need_bytes,omitempty"`  // what golden's files take there
	NeedInodes int64    `json:"need_inodes,omitempty"` // how many entries golden has there
	Reserved   float64  `json:"reserved,omitempty"`    // ext: per cent of the blocks for root; negative: none; 0: mkfs's default
	Options    string   `json:"options,omitempty"`     // that golden mounts it with and files need when they are written: "compress=zstd"

	Subvolumes []Subvolume `json:"subvolumes,omitempty"` // btrfs, outer ones first, without the top; MountPoint is the outermost's, the top's if no subvolume has it
}

// Subvolume is one of a btrfs.
type Subvolume struct {
	Path       string `json:"path"`              // from the file system's top: "@home", "@/var/lib/machines"
	MountPoint string `json:"mount_point"`       // where golden's files see it; empty: nowhere, it only holds others
	Mounted    bool   `json:"mounted,omitempty"` // by a mount of its own (subvol=); else it lies inside another one
	Default    bool   `json:"default,omitempty"` // is what a mount without subvol= gets
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
	Kind string   `json:"kind"` // "grub" (2), "grub-legacy", "lilo", "systemd-boot", "extlinux", or "none"
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
	Hostname  string   `json:"hostname,omitempty"`
	MachineID string   `json:"machine_id,omitempty"`
	MACs      []string `json:"macs,omitempty"` // of its network cards
}

// Identity is who a clone is. It is the same in a deployment's plan for all,
// but for what a nodes file says of single ones.
type Identity struct {
	Mode     string    `json:"mode,omitempty"`     // IdentityClone, IdentitySame or IdentityTemplate; empty: IdentityClone
	Hostname string    `json:"hostname,omitempty"` // template with one %d or %03d: the node's number; empty: "node%d"; a nodes file's name has none
	Networks []Network `json:"networks,omitempty"` // fixed addresses; empty: golden's configuration, without what is golden's alone
	NoNVRAM  bool      `json:"no_nvram,omitempty"` // leave the firmware's boot entries alone
	Scrub    []string  `json:"scrub,omitempty"`    // what is removed besides: ScrubApps
}

// What a clone keeps of the golden node's identity.
const (
	IdentityClone    = "clone"    // nothing: a machine of its own
	IdentitySame     = "same"     // all: the golden machine's hardware is replaced
	IdentityTemplate = "template" // nothing, and users' traces, logs and histories go too
)

// ScrubApps removes what programs know golden by: its place in clusters,
// domains and subscriptions.
const ScrubApps = "apps"

// MaxHooks and MaxHook bound what golden sends of post.d: programs, and bytes
// of each.
const (
	MaxHooks = 64
	MaxHook  = 1 << 20
)

// Network is the addresses of one interface of a node.
type Network struct {
	MAC       string   `json:"mac"`       // of the interface
	Addresses []string `json:"addresses"` // with their prefix lengths: "10.0.0.7/24"
	Gateway   string   `json:"gateway,omitempty"`
	DNS       []string `json:"dns,omitempty"`
	Domain    string   `json:"domain,omitempty"`
}

// DiskResult says where a plan ended up on a node.
type DiskResult struct {
	Disks       []string           `json:"disks"`                 // node's device for each Plan.Disks: "/dev/vda"
	Stack       []StackResult      `json:"stack,omitempty"`       // what was made of them
	Blocks      []string           `json:"blocks,omitempty"`      // node's device for each Plan.Blocks
	BlockUUIDs  []string           `json:"block_uuids,omitempty"` // what the contents of each got in place of golden's; empty: they have golden's. Known when all is received
	Filesystems []FilesystemResult `json:"filesystems"`           // same order as Plan.Filesystems
	Kept        bool               `json:"kept,omitempty"`        // by Plan.Update: an earlier clone's files are there
}

// FilesystemResult is one file system as made on the node.
type FilesystemResult struct {
	Device string `json:"device"` // "/dev/vda1"
	UUID   string `json:"uuid"`
	PartID string `json:"part_id,omitempty"` // PARTUUID
}

// StackResult is one array, container, group or volume as made on the node.
type StackResult struct {
	Name   string `json:"name"`             // as the plan has it: "md0", "mapper/crypt", "vg0", "vg0/root"
	Device string `json:"device,omitempty"` // "/dev/md0"; a group has none
	UUID   string `json:"uuid,omitempty"`   // as mdadm, cryptsetup or lvm prints it
}
