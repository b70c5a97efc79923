package layout

import (
	"math"
	"math/bits"
)

// claim is what one of several that share a room asks for, in units: MiB of a
// disk, extents of a volume group.
type claim struct {
	base int64 // that it asks for, before its bounds
	want int64 // base within its bounds: what it gets where all find room
	min  int64 // where they don't
	most int64
	fill bool // takes of what is left
}

// unbounded is no limit at all, small enough to be added up.
const unbounded = math.MaxInt64 / 4

// newClaim makes a claim in units: a size is rounded up, a limit down. The
// percentage is of whole, which is in units too.
func newClaim(p Part, unit, whole int64) claim {
	c := claim{base: ceil(p.Size, unit), fill: p.Fill, most: unbounded}
	if p.Percent > 0 {
		c.base = percentOf(whole, p.Percent)
	}
	if p.Max > 0 {
		c.most = max(p.Max/unit, 1)
	}
	c.want = min(max(c.base, ceil(p.Min, unit), 1), c.most)
	c.min = c.want
	if p.Min > 0 {
		c.min = min(ceil(p.Min, unit), c.want)
	}
	return c
}

// percentOf rounds down, so that parts of 100 % in sum always fit.
func percentOf(whole int64, percent float64) int64 {
	return min(int64(float64(whole)*percent/100), whole)
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

// sum is what all claims take where all get what they want, and at least.
func sum(claims []claim) (want, least int64) {
	for _, c := range claims {
		want += c.want
		least += c.min
	}
	return want, least
}

// share gives each claim its size. The room has to hold the least of all.
func share(claims []claim, room int64) []int64 {
	want, least := sum(claims)
	sizes := make([]int64, len(claims))
	for i, c := range claims {
		sizes[i] = c.want
	}
	switch {
	case want > room:
		shrink(claims, sizes, want-room, want-least)
	case want < room:
		fill(claims, sizes, room-want)
	}
	return sizes
}

// shrink takes excess off the sizes, of each in proportion to what it can
// spare; together they can spare all. It counts from the first on, so that
// what rounding takes off one too little the next one gives.
func shrink(claims []claim, sizes []int64, excess, all int64) {
	var spared, taken int64
	for i, c := range claims {
		spared += c.want - c.min
		hi, lo := bits.Mul64(uint64(excess), uint64(spared))
		quo, _ := bits.Div64(hi, lo, uint64(all)) // excess <= all: no larger than spared
		sizes[i] -= int64(quo) - taken
		taken = int64(quo)
	}
}

// fill gives what is left to those that fill: each as much on top of its base,
// but within its bounds.
func fill(claims []claim, sizes []int64, left int64) {
	at := func(c claim, level int64) int64 { return min(max(c.base+level, c.want), c.most) }
	more := func(level int64) int64 {
		var n int64
		for _, c := range claims {
			if c.fill {
				n += at(c, level) - c.want
			}
		}
		return n
	}
	// The highest level that what is left is enough for. Nobody's base is
	// beyond the room, so that one level above it takes all.
	low, high := int64(0), int64(1)
	for _, s := range sizes {
		high += s
	}
	high += left
	if more(high) <= left {
		low = high // all are at their limits
	}
	for high-low > 1 {
		if mid := low + (high-low)/2; more(mid) <= left {
			low = mid
		} else {
			high = mid
		}
	}
	left -= more(low)
	for i, c := range claims {
		if !c.fill {
			continue
		}
		sizes[i] = at(c, low)
		if left > 0 && at(c, low+1) > sizes[i] {
			sizes[i]++ // less than one unit for each is left
			left--
		}
	}
}
