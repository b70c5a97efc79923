// Package mangle knows the escapes of lists with blanks between their fields:
// fstab(5), /proc/swaps, /proc/self/mountinfo. It reads no list; moby's
// mountinfo does that for mounts, but keeps its way to undo the escapes.
//
//	/my swap\file ──Do──▶ /my\040swap\134file ──Undo──▶ /my swap\file
package mangle

import "strings"

// Do writes a name as one field, as the kernel's mangle_path does
// (fs/seq_file.c) and getmntent(3) reads it.
func Do(name string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(name)
}

// Undo turns \040 and its like, octal numbers of three digits, into their
// bytes. A backslash that begins none stays.
func Undo(field string) string {
	if !strings.Contains(field, `\`) {
		return field
	}
	var b strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+3 < len(field) && field[i+1] <= '3' && octal(field[i+1]) && octal(field[i+2]) && octal(field[i+3]) {
			b.WriteByte((field[i+1]-'0')<<6 | (field[i+2]-'0')<<3 | (field[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(field[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
