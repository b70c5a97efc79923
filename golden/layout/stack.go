package layout

// Stack is what is made of partitions: arrays, encrypted containers and volume
// groups, and containers on volumes: Order says which first. What a thing is made of
// is named as on the golden node, by its path without /dev/: "sda2", "sdb" (a
// whole disk), "md0", "mapper/crypt", "vg0/root".
type Stack struct {
	Arrays []Array `json:"arrays,omitempty"`
	Crypts []Crypt `json:"crypts,omitempty"`
	Groups []Group `json:"groups,omitempty"`
}

// Array is a software RAID (md(4)).
type Array struct {
	Name     string   `json:"name"`               // "md0", "md/home"
	Level    int      `json:"level"`              // 0, 1, 4, 5, 6, 10
	Members  []string `json:"members"`            // in their order
	Metadata string   `json:"metadata,omitempty"` // "0.90", "1.0", "1.1", "1.2"; empty: mdadm's own
	Chunk    int64    `json:"chunk,omitempty"`    // bytes; 0: mdadm's own
	OldUUID  string   `json:"old_uuid,omitempty"` // as mdadm prints it, replaced in the clone's files
}

// Crypt is a LUKS container. A clone's has a key of its own.
type Crypt struct {
	Name    string `json:"name"`              // "crypt", seen as mapper/crypt
	Device  string `json:"device"`            // what it is made of
	Version int    `json:"version,omitempty"` // 1 or 2; 0: cryptsetup's own
	OldUUID string `json:"old_uuid,omitempty"`
}

// Group is a volume group of LVM.
type Group struct {
	Name    string   `json:"name"`
	Devices []string `json:"devices"`          // its physical volumes
	Extent  int64    `json:"extent,omitempty"` // bytes; 0: LVM's own, 4 MiB
	Volumes []Volume `json:"volumes"`
	OldUUID string   `json:"old_uuid,omitempty"`
}

// Volume is a logical volume: a linear one, or a striped one. The sizes are a
// Part's, of what the group has.
type Volume struct {
	Name    string  `json:"name"`
	Size    int64   `json:"size,omitempty"`
	Percent float64 `json:"percent,omitempty"`
	Min     int64   `json:"min,omitempty"`
	Max     int64   `json:"max,omitempty"`
	Fill    bool    `json:"fill,omitempty"`
	Stripes int     `json:"stripes,omitempty"` // over so many physical volumes; 0 and 1: linear
	OldUUID string  `json:"old_uuid,omitempty"`
}

// Match says which disk of a node takes a golden disk's part. Every word that
// is set has to be true of it. A text may have * and ? (path.Match).
type Match struct {
	Name       string `json:"name,omitempty"` // "sda", "nvme*"
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	WWN        string `json:"wwn,omitempty"`  // "naa.5000c500…", "eui.…", as sysfs has it
	Path       string `json:"path,omitempty"` // below /dev/disk/by-path, as udev makes them: "pci-0000:00:1f.2-ata-1"
	Bus        string `json:"bus,omitempty"`  // "ata", "scsi", "nvme", "virtio", "mmc", "usb"
	MinBytes   int64  `json:"min_bytes,omitempty"`
	MaxBytes   int64  `json:"max_bytes,omitempty"`
	Rotational *bool  `json:"rotational,omitempty"`
}
