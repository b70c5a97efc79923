package fixup

import "strings"

const (
	alnum = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	// Before a host name a dot makes it somebody's domain, behind it a dot
	// begins its own: "golden.lan" is golden, "www.golden" isn't.
	nameBefore = alnum + "-_."
	nameAfter  = alnum + "-_"
)

// idEdge is what may not stand beside an id. A short one ("deadbeef-01") could
// be a part of something longer with hyphens; a whole UUID can't, and grub's
// menu ids have a hyphen before it ("gnulinux-advanced-UUID").
func idEdge(id string) string {
	if len(id) >= 32 { // of RFC 9562, mdadm or LVM
		return alnum
	}
	return alnum + "-"
}

// indexID finds an id in s, -1: it isn't there.
func indexID(s, id string) int { return indexToken(s, id, 0, idEdge(id), idEdge(id)) }

// replaceID puts now in the place of every id.
func replaceID(s, id, now string) string {
	return replaceToken(s, id, now, idEdge(id), idEdge(id))
}

// indexToken finds word in s from a place on, in any case, where no character
// of before precedes it and none of after follows. -1: it isn't there.
func indexToken(s, word string, from int, before, after string) int {
	if word == "" {
		return -1
	}
	for i := from; i+len(word) <= len(s); i++ {
		if !strings.EqualFold(s[i:i+len(word)], word) {
			continue
		}
		if i > 0 && strings.IndexByte(before, s[i-1]) >= 0 {
			continue
		}
		if e := i + len(word); e < len(s) && strings.IndexByte(after, s[e]) >= 0 {
			continue
		}
		return i
	}
	return -1
}

// replaceToken puts now in the place of every word.
func replaceToken(s, word, now, before, after string) string {
	var b strings.Builder
	at := 0
	for {
		i := indexToken(s, word, at, before, after)
		if i < 0 {
			b.WriteString(s[at:])
			return b.String()
		}
		b.WriteString(s[at:i])
		b.WriteString(now)
		at = i + len(word)
	}
}
