package golden

import "github.com/kamethod/kamethod/golden/wire"

// plant lays agents out as trees, one below each of those that golden tells
// itself: each list is a tree, whoever is above before who is below. Each tells
// as many as fanout, and all trees are as low and as alike as can be. Agents
// that other nodes can't reach are trees of their own.
//
//	fanout 2, seven nodes:   1 ─┬─ 3 ── 7      2 ─┬─ 4
//	                            └─ 5              └─ 6
func plant(list []*agent, fanout int) [][]wire.ExecNode {
	var order []*agent // first who must be told by golden
	for _, reach := range []bool{false, true} {
		for _, a := range list {
			if (a.addr != "") == reach {
				order = append(order, a)
			}
		}
	}
	roots := 0
	for roots < len(order) && (roots < fanout || order[roots].addr == "") {
		roots++
	}
	tree, place := make([]int, len(order)), make([]int, len(order)) // where each stands
	trees := make([][]wire.ExecNode, roots)
	begin, width := 0, roots // of the level above
	for i, a := range order {
		above := -1
		if i < roots {
			tree[i] = i
		} else {
			if i == begin+width+width*fanout {
				begin, width = begin+width, width*fanout
			}
			up := begin + (i-begin-width)%width
			tree[i], above = tree[up], place[up]
		}
		t := &trees[tree[i]]
		place[i] = len(*t)
		n := wire.ExecNode{Number: a.node.Number, Above: above, Pin: a.pin, Nonce: a.nonce}
		if above >= 0 {
			n.Addr = a.addr
		}
		*t = append(*t, n)
	}
	return trees
}

// below lists who is below a node in a tree, and the node itself first.
func below(tree []wire.ExecNode, number int) []int {
	in := map[int]bool{}
	var out []int
	for i, n := range tree {
		if n.Number == number || in[n.Above] {
			in[i] = true
			out = append(out, n.Number)
		}
	}
	return out
}
