package fixup

import "strings"

// iniLine is a line of a keyfile or of a systemd unit, with all its bytes.
type iniLine struct {
	raw     string // with its end
	section string
	nth     int // sections of that name may be there several times
	key     string
	value   string
}

// splitINI takes a text apart, so that its lines joined are the text again.
func splitINI(text string) []iniLine {
	var out []iniLine
	section, nth := "", map[string]int{}
	for raw := range strings.SplitAfterSeq(text, "\n") {
		if raw == "" {
			continue
		}
		line := strings.TrimSpace(raw)
		l := iniLine{raw: raw}
		switch {
		case strings.HasPrefix(line, "#"), strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
			nth[section]++
		default:
			if k, v, ok := strings.Cut(line, "="); ok {
				l.key, l.value = strings.TrimSpace(k), strings.TrimSpace(v)
			}
		}
		l.section, l.nth = section, nth[section]
		out = append(out, l)
	}
	return out
}

// value is the last one that a key has.
func iniValue(lines []iniLine, section, key string) string {
	v := ""
	for _, l := range lines {
		if l.section == section && l.key == key {
			v = l.value
		}
	}
	return v
}

// editINI leaves out the lines that drop names, and puts further ones below
// the first head of their section, or at the end under a head of their own.
func editINI(lines []iniLine, drop func(iniLine) bool, add map[string][]string, order ...string) string {
	var b strings.Builder
	done := map[string]bool{}
	for _, l := range lines {
		if drop(l) {
			continue
		}
		b.WriteString(l.raw)
		head := l.key == "" && strings.TrimSpace(l.raw) == "["+l.section+"]"
		if !head || done[l.section] || len(add[l.section]) == 0 {
			continue
		}
		done[l.section] = true
		if !strings.HasSuffix(l.raw, "\n") {
			b.WriteString("\n")
		}
		b.WriteString(strings.Join(add[l.section], "\n") + "\n")
	}
	for _, s := range order {
		if done[s] || len(add[s]) == 0 {
			continue
		}
		if b.Len() > 0 {
			if !strings.HasSuffix(b.String(), "\n") {
				b.WriteString("\n")
			}
			b.WriteString("\n")
		}
		b.WriteString("[" + s + "]\n" + strings.Join(add[s], "\n") + "\n")
	}
	return b.String()
}
