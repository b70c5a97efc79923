package layout

import (
	"fmt"
	"strconv"
	"strings"
)

// typeWord is a partition's type by the word that a person has for it.
type typeWord struct {
	word string
	mbr  byte   // 0: an MBR has none
	guid string // "": a GPT has none
}

func typeWords() []typeWord {
	return []typeWord{
		{"linux", TypeLinux, GUIDLinux},
		{"swap", TypeLinuxSwap, GUIDSwap},
		{"efi", typeESP, GUIDESP},
		{"bios", 0, GUIDBIOSBoot},
		{"lvm", typeLVM, GUIDLVM},
		{"raid", typeRAID, GUIDRAID},
		{"luks", typeLUKS, GUIDLUKS},
		{"extended", TypeExtended, ""},
	}
}

// SetType gives the partition the type that a word stands for in such a table:
// linux, swap, efi, bios, lvm, raid, luks, extended, "type" and a hexadecimal
// number as in a desc, or a GPT's GUID itself. A partition whose type is
// extended becomes the extended one.
func (p *Part) SetType(word string, t Table) error {
	typ, guid, err := parseType(word)
	if err != nil {
		return err
	}
	if t == GPT {
		if guid == "" {
			return fmt.Errorf("type %q: a GPT has no such type", word)
		}
		p.GUID = guid
		return nil
	}
	if typ == 0 {
		return fmt.Errorf("type %q: an MBR has no such type", word)
	}
	if p.Type = typ; extendedType(typ) {
		p.Kind = Extended
	}
	return nil
}

// parseType is the word's type in both tables; 0 and "" where one lacks it.
func parseType(word string) (byte, string, error) {
	for _, w := range typeWords() {
		if w.word == word {
			return w.mbr, w.guid, nil
		}
	}
	if upper := strings.ToUpper(word); guidLike(upper) {
		return 0, upper, nil
	}
	hex, ok := strings.CutPrefix(word, "type")
	n, err := strconv.ParseUint(hex, 16, 8)
	if !ok || err != nil || n == 0 || n == typeProtective || len(hex) > 2 {
		return 0, "", fmt.Errorf("type %q: want linux, swap, efi, bios, lvm, raid, luks, extended, type and a hexadecimal number from 1 to ff, such as type83, or a GUID", word)
	}
	guid, _ := toGUID(byte(n))
	return byte(n), guid, nil
}

// TypeWord is the word that SetType takes for the partition's type.
func (p Part) TypeWord(t Table) string {
	for _, w := range typeWords() {
		if t == GPT && w.guid != "" && w.guid == p.GUID || t != GPT && w.mbr != 0 && w.mbr == p.Type {
			return w.word
		}
	}
	if t == GPT {
		return p.GUID
	}
	return fmt.Sprintf("type%x", p.Type)
}
