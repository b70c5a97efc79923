// Package layout says what a disk looks like: which partitions it has, of
// which type and size, and where they lie once fitted to a disk of a given
// size. It is pure arithmetic and text: it opens no device, runs no program
// and knows nothing of what the partitions hold.
//
//	desc text ────ParseDesc──▶ Disk ──Fit(size, sector)──▶ Fitted ──Script──▶ sfdisk
//	golden table ──FromTable─▶   └──Desc──▶ desc text
package layout

// Table is the kind of partition table.
type Table string

const (
	MBR Table = "dos" // sfdisk's name for it
	GPT Table = "gpt"

	None Table = "none" // no table: the disk is used as a whole
)

// Kind is where in an MBR a partition is described.
type Kind string

const (
	Primary  Kind = "primary" // every GPT partition is primary
	Extended Kind = "extended"
	Logical  Kind = "logical"
)

// Disk is a layout that has not met a disk yet.
type Disk struct {
	Table Table  `json:"table"` // None: the whole disk is one member or file system, and Parts is empty
	Parts []Part `json:"parts"`
}

// Part is one partition of a Disk. Sizes are bytes.
type Part struct {
	Number  int      `json:"number"` // as the kernel numbers it; logicals from 5
	Kind    Kind     `json:"kind"`
	Type    byte     `json:"type,omitempty"`    // MBR type byte
	GUID    string   `json:"guid,omitempty"`    // GPT type GUID, upper case
	Name    string   `json:"name,omitempty"`    // GPT partition name
	Size    int64    `json:"size,omitempty"`    // bytes; 0 with Fill alone or Percent; of an extended one: as its logicals take
	Percent float64  `json:"percent,omitempty"` // of what the disk has for partitions, in place of Size
	Min     int64    `json:"min,omitempty"`     // bytes: on a disk too small for all it shrinks down to this; 0: it doesn't shrink
	Max     int64    `json:"max,omitempty"`     // bytes: neither Percent nor Fill makes it larger; 0: no limit
	Fill    bool     `json:"fill,omitempty"`    // takes all that is left, as much as each other one that fills
	Boot    bool     `json:"boot,omitempty"`    // the active flag
	Flags   []string `json:"flags,omitempty"`   // other attributes of a GPT's, as sfdisk names them: RequiredPartition, NoBlockIOProtocol, GUID:60
}

// Fitted is a layout laid onto one disk: every partition has its sectors.
type Fitted struct {
	Table      Table        `json:"table"`
	ID         string       `json:"id,omitempty"` // "0x1234abcd" on an MBR, a GUID on a GPT; empty: sfdisk makes one
	SectorSize int64        `json:"sector_size"`  // bytes, logical
	Parts      []FittedPart `json:"parts"`
	Notes      []string     `json:"notes,omitempty"` // what a person should know, such as space that stays unused
}

// FittedPart is a partition with its place, in logical sectors.
type FittedPart struct {
	Part
	Start int64  `json:"start"`
	Count int64  `json:"count"`
	UUID  string `json:"uuid,omitempty"` // GPT partition GUID; empty: sfdisk makes one
}
