package stream

import (
	"slices"
	"testing"
)

func TestWithout(t *testing.T) {
	const k = 4096
	for name, c := range map[string]struct{ space, data, want []Extent }{
		"no data":            {[]Extent{{0, 9 * k}}, nil, []Extent{{0, 9 * k}}},
		"no space":           {nil, []Extent{{0, k}}, nil},
		"at the beginning":   {[]Extent{{0, 9 * k}}, []Extent{{0, 6}}, []Extent{{k, 8 * k}}},
		"in the middle":      {[]Extent{{0, 9 * k}}, []Extent{{2*k + 5, k}}, []Extent{{0, 2 * k}, {4 * k, 5 * k}}},
		"at the end":         {[]Extent{{k, 2 * k}}, []Extent{{2 * k, 100 * k}}, []Extent{{k, k}}},
		"all":                {[]Extent{{k, 2 * k}}, []Extent{{0, 5 * k}}, nil},
		"one over two":       {[]Extent{{0, 3 * k}, {5 * k, 3 * k}}, []Extent{{2 * k, 4 * k}}, []Extent{{0, 2 * k}, {6 * k, 2 * k}}},
		"many":               {[]Extent{{0, 10 * k}, {20 * k, k}}, []Extent{{k, k}, {3 * k, k}, {15 * k, k}, {20 * k, k}}, []Extent{{0, k}, {2 * k, k}, {4 * k, 6 * k}}},
		"neighbours":         {[]Extent{{k, k}, {3 * k, k}}, []Extent{{0, k}, {2 * k, k}}, []Extent{{k, k}, {3 * k, k}}},
		"two in one's block": {[]Extent{{0, 2 * k}}, []Extent{{0, 10}, {100, 10}}, []Extent{{k, k}}},
	} {
		if got := without(c.space, c.data); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
