package layout

import (
	"fmt"
	"slices"
	"strings"
)

// Script is the table as input for sfdisk: every number is given, nothing is
// left for sfdisk to choose but the identifiers where f has none. A disk without
// a table has an empty one.
func (f Fitted) Script() string {
	var b strings.Builder
	if f.Table == None {
		return ""
	}
	fmt.Fprintf(&b, "label: %s\n", f.Table)
	if f.ID != "" {
		fmt.Fprintf(&b, "label-id: %s\n", f.ID)
	}
	fmt.Fprintf(&b, "unit: sectors\nsector-size: %d\n\n", f.SectorSize)
	// By number: sfdisk wants the extended partition before the logical
	// ones, and those in their order.
	parts := slices.SortedFunc(slices.Values(f.Parts), func(p, q FittedPart) int { return p.Number - q.Number })
	for _, p := range parts {
		fmt.Fprintf(&b, "%d : start=%d, size=%d, type=%s", p.Number, p.Start, p.Count, p.scriptType(f.Table))
		if p.UUID != "" {
			fmt.Fprintf(&b, ", uuid=%s", p.UUID)
		}
		if p.Name != "" && f.Table == GPT {
			fmt.Fprintf(&b, ", name=\"%s\"", escapeName(p.Name))
		}
		if p.Boot && f.Table == MBR {
			b.WriteString(", bootable")
		}
		if attrs := p.attrs(); attrs != "" && f.Table == GPT {
			fmt.Fprintf(&b, ", attrs=\"%s\"", attrs)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// attrs is the flags as sfdisk takes them.
func (p Part) attrs() string {
	flags := slices.Clone(p.Flags)
	if p.Boot {
		flags = append(flags, flagBoot)
	}
	return strings.Join(flags, " ")
}

func (p FittedPart) scriptType(t Table) string {
	if t == GPT {
		return p.GUID
	}
	return fmt.Sprintf("%x", p.Type)
}

// escapeName writes what would end or bend a quoted name as sfdisk's own dump
// does: \x and two digits a byte.
func escapeName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c == '"' || c == '\\' || c == '$' || c == '`' {
			fmt.Fprintf(&b, "\\x%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
