package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/kamethod/kamethod/images/faults"
)

type options struct {
	n, nodes    int
	first, seed uint64
	without     string
}

// soak plays and prints, and counts what was broken.
func soak(ctx context.Context, o options) (broken int, err error) {
	lab, err := faults.NewLab(os.Getenv("FAULTS_TAGS"))
	if err != nil {
		return 0, err
	}
	defer lab.Close()
	without := map[string]bool{}
	for _, name := range strings.Split(o.without, ",") {
		without[strings.TrimSpace(name)] = true
	}
	seed, n := o.first, o.n
	switch {
	case o.seed != 0:
		seed, n = o.seed, 1
	case seed == 0:
		seed = 1 + rand.Uint64N(1e9)
	}
	var list []*faults.Result
	for i := range n {
		s := faults.Random(seed+uint64(i), without)
		if o.nodes > 0 {
			s.Shape = faults.ShapeFor(o.nodes)
		}
		r, err := lab.Play(ctx, s)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			fmt.Printf("seed %d: %v\n", s.Seed, err)
			broken++
			continue
		}
		list = append(list, r)
		fmt.Printf("%3d %s\n", i+1, r)
		if len(r.Breaks) > 0 {
			broken++
		}
		if len(r.Breaks) > 0 || o.seed != 0 {
			fmt.Println(r.Log)
		}
	}
	fmt.Printf("\n%s\n%d of %d runs broke an invariant\n", faults.Summary(list), broken, len(list))
	if ctx.Err() != nil {
		return broken, errors.New("interrupted")
	}
	return broken, nil
}
