package golden

import (
	"strings"
	"unicode"

	"github.com/kamethod/kamethod/golden/wire"
)

// What a node says is shown on the administrator's terminal, so many lines of
// a report at most, and of each so many bytes.
const (
	maxLines = 1000
	maxLine  = 4096
)

// plain makes what a node says fit to be shown.
func plain(r *wire.Report) {
	each(r.Lines)
	if r.Fault != nil {
		r.Fault.Stage, r.Fault.Cause = printable(r.Fault.Stage), printable(r.Fault.Cause)
	}
	if r.Done != nil {
		each(r.Done.HostKeys)
		each(r.Done.Notes)
	}
}

func each(lines []string) {
	for i := range lines {
		lines[i] = printable(lines[i])
	}
}

// printable takes out what would move a cursor, forge a line or hide text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s[:min(len(s), maxLine)])
}
