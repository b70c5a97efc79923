package disk

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
)

// misses is the first word of the hint that isn't true of the disk, empty if
// all are.
func misses(m layout.Match, d Device) string {
	for _, w := range []struct {
		word, want string
		have       []string
	}{
		{"name", m.Name, []string{d.Name}}, {"model", m.Model, []string{d.Model}}, {"serial", m.Serial, []string{d.Serial}},
		{"wwn", m.WWN, []string{d.WWN}}, {"path", m.Path, d.ByPath}, {"bus", m.Bus, []string{d.Bus}},
	} {
		if w.want != "" && !slices.ContainsFunc(w.have, func(have string) bool { return like(w.want, have) }) {
			have := "" // the first one is today's
			if len(w.have) > 0 {
				have = w.have[0]
			}
			return fmt.Sprintf("its %s is %q, want %q", w.word, have, w.want)
		}
	}
	switch {
	case m.MinBytes > 0 && d.Bytes < m.MinBytes:
		return fmt.Sprintf("it has %d bytes, want at least %d", d.Bytes, m.MinBytes)
	case m.MaxBytes > 0 && d.Bytes > m.MaxBytes:
		return fmt.Sprintf("it has %d bytes, want at most %d", d.Bytes, m.MaxBytes)
	case m.Rotational != nil && *m.Rotational != d.Rotational:
		return map[bool]string{true: "it doesn't rotate", false: "it rotates"}[*m.Rotational]
	}
	return ""
}

// like says whether the text is the pattern's. A / in a text is nothing
// special, other than to path.Match.
func like(pattern, text string) bool {
	if pattern == text {
		return true
	}
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x01") }
	ok, err := path.Match(flat(pattern), flat(text))
	return err == nil && ok
}

// hint prints the words that are set.
func hint(m layout.Match) string {
	var words []string
	for _, w := range []struct{ word, value string }{
		{"name", m.Name}, {"model", m.Model}, {"serial", m.Serial}, {"wwn", m.WWN}, {"path", m.Path}, {"bus", m.Bus},
	} {
		if w.value != "" {
			words = append(words, w.word+" "+w.value)
		}
	}
	if m.MinBytes > 0 {
		words = append(words, fmt.Sprintf("at least %d MB", m.MinBytes>>20))
	}
	if m.MaxBytes > 0 {
		words = append(words, fmt.Sprintf("at most %d MB", m.MaxBytes>>20))
	}
	if m.Rotational != nil {
		words = append(words, map[bool]string{true: "rotates", false: "doesn't rotate"}[*m.Rotational])
	}
	return strings.Join(words, ", ")
}

// checkMatch refuses a hint that could never be true.
func checkMatch(m layout.Match) error {
	for _, p := range []string{m.Name, m.Model, m.Serial, m.WWN, m.Path, m.Bus} {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("hint %q: %w", p, err)
		}
	}
	if m.MinBytes < 0 || m.MaxBytes < 0 || m.MaxBytes > 0 && m.MaxBytes < m.MinBytes {
		return fmt.Errorf("hint: at least %d, at most %d bytes", m.MinBytes, m.MaxBytes)
	}
	return nil
}
