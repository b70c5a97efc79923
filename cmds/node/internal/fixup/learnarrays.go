package fixup

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// arrayUUID is mdadm's (mdadm.conf(5)).
func arrayUUID() *regexp.Regexp {
	return regexp.MustCompile(`(?i)[ \t]uuid=([0-9a-f]{8}(?::[0-9a-f]{8}){3})(?:[ \t\r\n]|$)`)
}

// learnArrays gives the arrays whose UUID on golden the plan doesn't know the
// one that golden's mdadm.conf tells them by: a layout that was written by hand
// has none. One that two lines could mean stays as it is, and so does one whose
// line is the clone's own: then this isn't the first run.
func learnArrays(t *tree, arrays []layout.Array, made []wire.StackResult) []layout.Array {
	if !slices.ContainsFunc(arrays, func(a layout.Array) bool { return a.OldUUID == "" }) {
		return arrays
	}
	out := slices.Clone(arrays)
	for _, name := range mdadmConf() {
		text, err := t.read(name)
		if err != nil {
			continue
		}
		lines := arrayLines(string(text))
		for i, a := range out {
			if a.OldUUID != "" {
				continue
			}
			old := uuidOfArray(lines, a.Name, out)
			if !slices.ContainsFunc(made, func(r wire.StackResult) bool { return strings.EqualFold(r.UUID, old) }) {
				out[i].OldUUID = old
			}
		}
	}
	return out
}

// arrayLines are the ARRAY lines, each with what goes on below it.
func arrayLines(text string) []string {
	var lines []string
	inArray := false
	for s := range strings.Lines(text) {
		f := strings.Fields(s)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		if strings.ContainsAny(s[:1], blanks) {
			if inArray {
				lines[len(lines)-1] += s
			}
			continue
		}
		if inArray = len(f) > 1 && strings.EqualFold(f[0], "ARRAY"); inArray {
			lines = append(lines, s)
		}
	}
	return lines
}

// uuidOfArray finds the one line that has the array's device, or else its name.
func uuidOfArray(lines []string, name string, known []layout.Array) string {
	var byDevice, byName []string
	for _, line := range lines {
		m := arrayUUID().FindStringSubmatch(line)
		if m == nil || slices.ContainsFunc(known, func(a layout.Array) bool { return strings.EqualFold(a.OldUUID, m[1]) }) {
			continue
		}
		if slices.Contains(arrayNames(name), strings.Fields(line)[1]) {
			byDevice = append(byDevice, m[1])
		} else if isArrayName(line, name) {
			byName = append(byName, m[1])
		}
	}
	switch {
	case len(byDevice) == 1:
		return byDevice[0]
	case len(byDevice) == 0 && len(byName) == 1:
		return byName[0]
	}
	return ""
}

// isArrayName says whether a line's name= is the array's: mdadm makes
// "host:0" of /dev/md0, and "host:home" of /dev/md/home.
func isArrayName(line, name string) bool {
	for f := range strings.FieldsSeq(line) {
		key, val, _ := strings.Cut(f, "=")
		if !strings.EqualFold(key, "name") {
			continue
		}
		_, tail, ok := strings.Cut(val, ":")
		if !ok {
			tail = val
		}
		if tail == path.Base(name) || "md"+tail == name {
			return true
		}
	}
	return false
}
