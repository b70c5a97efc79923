package golden

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

func someAgents(n int, reached func(int) bool) []*agent {
	var out []*agent
	for i := 1; i <= n; i++ {
		a := &agent{node: &Node{Number: i}, nonce: "x"}
		if reached(i) {
			a.addr = fmt.Sprintf("10.0.0.1:%d", i)
		}
		out = append(out, a)
	}
	return out
}

// Every node is in one tree, once; nobody tells more than fanout, and no tree
// is higher or larger than it need be.
func TestPlant(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 31, 32, 33, 64, 100, 1056, 1057, 4096} {
		for _, fanout := range []int{1, 2, 3, 8, 32, 4096} {
			if n/fanout > 200 {
				continue // a chain of thousands: nobody wants it
			}
			trees := plant(someAgents(n, func(i int) bool { return i > fanout }), fanout)
			if len(trees) != min(n, fanout) {
				t.Fatalf("%d nodes, fanout %d: %d trees", n, fanout, len(trees))
			}
			height, room := 1, fanout // least
			for level := fanout; room < n; height++ {
				level *= fanout
				room += level
			}
			seen := map[int]bool{}
			small, large := n, 0
			for _, tree := range trees {
				small, large = min(small, len(tree)), max(large, len(tree))
				below, deep := map[int]int{}, make([]int, len(tree))
				for i, x := range tree {
					if seen[x.Number] || x.Above >= i || (x.Above < 0) != (i == 0) || (x.Addr == "") != (i == 0) {
						t.Fatalf("%d nodes, fanout %d: %+v at %d", n, fanout, x, i)
					}
					seen[x.Number] = true
					deep[i] = 1
					if x.Above >= 0 {
						below[x.Above]++
						deep[i] = deep[x.Above] + 1
					}
					if deep[i] > height || below[x.Above] > fanout {
						t.Fatalf("%d nodes, fanout %d: level %d of %d, %d below one", n, fanout, deep[i], height, below[x.Above])
					}
				}
			}
			if len(seen) != n || large-small > 1 {
				t.Errorf("%d nodes, fanout %d: %d are told, trees of %d to %d", n, fanout, len(seen), small, large)
			}
		}
	}
}

// Nodes that others can't reach are told by golden.
func TestPlantUnreachable(t *testing.T) {
	trees := plant(someAgents(10, func(i int) bool { return i%2 == 0 }), 2)
	var alone []int
	for _, tree := range trees {
		alone = append(alone, tree[0].Number)
	}
	if !slices.Equal(alone, []int{1, 3, 5, 7, 9}) {
		t.Errorf("golden tells %v", alone)
	}
}

func TestBelow(t *testing.T) {
	tree := []wire.ExecNode{{Number: 1, Above: -1}, {Number: 2, Above: 0}, {Number: 3, Above: 0}, {Number: 4, Above: 1}, {Number: 5, Above: 3}}
	for number, want := range map[int][]int{1: {1, 2, 3, 4, 5}, 2: {2, 4, 5}, 3: {3}, 9: nil} {
		if got := below(tree, number); !slices.Equal(got, want) {
			t.Errorf("below %d: %v, want %v", number, got, want)
		}
	}
}
