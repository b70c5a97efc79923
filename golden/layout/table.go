package layout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxTableBytes bounds what sfdisk can have to say of 128 partitions.
const maxTableBytes = 1 << 20

// sfdiskTable is what sfdisk --json prints.
type sfdiskTable struct {
	PartitionTable struct {
		Label, ID  string
		Unit       string
		SectorSize int64 // sfdisk before 2.35 doesn't say
		Partitions []sfdiskPart
	}
}

type sfdiskPart struct {
	Node        string
	Start, Size int64  // sectors
	Type        string // hexadecimal, or a GUID
	UUID, Name  string
	Attrs       string // GPT
	Bootable    bool   // MBR
}

// ParseTable reads what sfdisk --json prints of dev, the path of a disk or an
// image. What is on a disk comes from anywhere, so that all of it is checked;
// but partitions may overlap or lie beyond each other: FromTable tells.
func ParseTable(text []byte, dev string) (Fitted, error) {
	f, err := parseTable(text, dev)
	if err != nil {
		return f, fmt.Errorf("partition table of %s: %w", dev, err)
	}
	return f, nil
}

func parseTable(text []byte, dev string) (Fitted, error) {
	if len(text) > maxTableBytes {
		return Fitted{}, fmt.Errorf("%d bytes of it: want at most %d", len(text), maxTableBytes)
	}
	var t sfdiskTable
	if err := json.Unmarshal(text, &t); err != nil {
		return Fitted{}, err
	}
	p := t.PartitionTable
	f := Fitted{Table: Table(p.Label), ID: p.ID, SectorSize: p.SectorSize}
	if f.SectorSize == 0 {
		f.SectorSize = 512
	}
	switch {
	case f.Table != MBR && f.Table != GPT:
		return f, fmt.Errorf("it is of kind %q: want dos or gpt", p.Label)
	case f.SectorSize < 512 || f.SectorSize > 64<<10 || f.SectorSize&(f.SectorSize-1) != 0:
		return f, fmt.Errorf("its sectors have %d bytes", f.SectorSize)
	case p.Unit != "" && p.Unit != "sectors":
		return f, fmt.Errorf("it counts %q: want sectors", p.Unit)
	case !f.tableID():
		return f, fmt.Errorf("its identifier is %q", p.ID)
	}
	for _, q := range p.Partitions {
		if q.Size == 0 {
			continue // an entry without a sector is none to the kernel either
		}
		part, err := q.parse(f, dev)
		if err != nil {
			return f, fmt.Errorf("partition %q: %w", q.Node, err)
		}
		if slices.ContainsFunc(f.Parts, func(p FittedPart) bool { return p.Number == part.Number }) {
			return f, fmt.Errorf("partition %q: named twice", q.Node)
		}
		f.Parts = append(f.Parts, part)
	}
	return f, nil
}

// tableID says whether the table's identifier has the form of one, or is none.
func (f Fitted) tableID() bool {
	if f.ID == "" {
		return true
	}
	if f.Table == GPT {
		return guidLike(strings.ToUpper(f.ID))
	}
	_, err := strconv.ParseUint(strings.TrimPrefix(f.ID, "0x"), 16, 32)
	return err == nil
}

func (q sfdiskPart) parse(f Fitted, dev string) (FittedPart, error) {
	part := FittedPart{Start: q.Start, Count: q.Size, UUID: q.UUID}
	var err error
	if part.Number, err = partNumber(q.Node, dev); err != nil {
		return part, err
	}
	most := maxDisk / f.SectorSize
	if q.Start < 0 || q.Size < 0 || q.Start > most || q.Size > most-q.Start {
		return part, fmt.Errorf("start %d, size %d: impossible", q.Start, q.Size)
	}
	if f.Table == MBR {
		typ, err := strconv.ParseUint(q.Type, 16, 8)
		if err != nil {
			return part, fmt.Errorf("type %q", q.Type)
		}
		part.Type, part.Boot, part.UUID = byte(typ), q.Bootable, ""
		part.Kind = kindOf(part.Part)
		return part, nil
	}
	if part.GUID = strings.ToUpper(q.Type); !guidLike(part.GUID) || q.UUID != "" && !guidLike(strings.ToUpper(q.UUID)) {
		return part, fmt.Errorf("type %q, uuid %q", q.Type, q.UUID)
	}
	part.Kind, part.Name = Primary, q.Name
	part.Flags, part.Boot = parseAttrs(q.Attrs)
	return part, nil
}

// kindOf is where in an MBR a partition of such a number and type is.
func kindOf(p Part) Kind {
	switch {
	case p.Number > 4:
		return Logical
	case extendedType(p.Type):
		return Extended
	}
	return Primary
}

// partNumber takes the number off a partition's name, which is the disk's with
// a number, and between them nothing, a p or "-part" (libfdisk's
// fdisk_partname).
func partNumber(node, dev string) (int, error) {
	rest, ok := strings.CutPrefix(node, dev)
	for _, between := range []string{"p", "-part"} {
		if after, found := strings.CutPrefix(rest, between); found {
			rest = after
			break
		}
	}
	n, err := strconv.ParseUint(rest, 10, 16)
	if !ok || err != nil || n == 0 {
		return 0, fmt.Errorf("no number of a partition of %s", dev)
	}
	return int(n), nil
}

// parseAttrs takes apart the attributes of a GPT's partition as sfdisk prints
// them: "RequiredPartition LegacyBIOSBootable GUID:48,60". The bootable one
// has a word of its own.
func parseAttrs(attrs string) (flags []string, boot bool) {
	bits := false
	for _, w := range strings.FieldsFunc(attrs, func(r rune) bool { return r == ' ' || r == ',' }) {
		bit, named := strings.CutPrefix(w, "GUID:")
		bits = bits || named
		switch {
		case w == flagBoot:
			boot = true
		case bits && bit != "" && bit[0] >= '0' && bit[0] <= '9':
			flags = append(flags, "GUID:"+bit)
		default:
			flags = append(flags, w)
		}
	}
	return flags, boot
}

// Attributes of a GPT's partition, as sfdisk names them (UEFI specification,
// table 5-8): bits 0, 1 and 2.
const (
	flagRequired = "RequiredPartition"
	flagNoIO     = "NoBlockIOProtocol"
	flagBoot     = "LegacyBIOSBootable"
)

// knownFlag says whether Script can give a partition the flag. Bits 48 to 63
// belong to whoever defined the partition's type.
func knownFlag(flag string) bool {
	if flag == flagRequired || flag == flagNoIO {
		return true
	}
	bit, ok := strings.CutPrefix(flag, "GUID:")
	n, err := strconv.ParseUint(bit, 10, 8)
	return ok && err == nil && n >= 48 && n <= 63 && len(bit) == 2
}

// AtLeast is the layout for contents of so many bytes in a partition: it
// doesn't shrink below that, and one that fills has as much. It never makes a
// partition of a fixed size larger: its size was wanted so.
func (d Disk) AtLeast(number int, bytes int64) Disk {
	d.Parts = slices.Clone(d.Parts)
	for i := range d.Parts {
		p := &d.Parts[i]
		switch {
		case p.Number != number || p.Kind == Extended:
		case p.Min > 0:
			p.Min = max(p.Min, bytes)
		case p.Fill:
			p.Min = max(p.Size, bytes)
		}
	}
	return d
}
