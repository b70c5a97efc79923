package faults

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Composable makes the faults that can be judged when others happen too, each
// anew: a fault remembers whom it befell.
func Composable() []Fault {
	return []Fault{
		Killed("killed", Anywhere, 1, 2*time.Second),
		Killed("2 neighbours killed", Anywhere, 2, 10*time.Second),
		Killed("3 neighbours killed", Anywhere, 3, 15*time.Second),
		Killed("first node killed", 0, 1, 2*time.Second),
		Killed("tail killed", -1, 1, 8*time.Second),
		KilledHereAndThere(),
		Hung(), HungBriefly(), Reset(), Unplugged(), Partitioned(), Deaf(), Mute(), Lossy(), SlowLink(),
		SlowDisk(), FullDisk(), FileTooLarge(), BrokenDisk(), LyingDisk(), BadMemory(),
		Corrupting("2 bytes turned on a hop", 2, 4<<20, Finishes, true),
		Corrupting("2 bytes turned below TLS", 2, 4<<20, Finishes, false),
		Rebooted(true), Rebooted(false), Renumbered(),
		Late(0.1), Late(0.5), Late(0.95), Late(1.02),
	}
}

// Solitary makes the faults that befall everybody, or must be judged alone.
func Solitary(long bool) []Fault {
	away := 8 * time.Second
	if long {
		away = 30 * time.Second
	}
	return []Fault{GoldenKilled(), GoldenRestarted(), Interrupted(), TooMany(), TooFew(), FewButEnough(), BadSource(), Flapped(away)}
}

// ShapeFor is links slow enough for a machine of two processors to feed all
// of them, and so much data that there is time to do harm.
func ShapeFor(nodes int) Shape {
	if nodes > 8 {
		return Shape{Nodes: nodes, Mbit: 100, Bytes: 40<<20 + 3*512}
	}
	return Shape{Nodes: nodes, Mbit: 200, Bytes: 60<<20 + 3*512}
}

// Random is a scenario that a seed gives: one to three faults, in 5 or 20
// nodes. The names in without are left out.
func Random(seed uint64, without map[string]bool) Scenario {
	rnd := rand.New(rand.NewPCG(seed, 0))
	n := 5
	if rnd.IntN(2) == 1 {
		n = 20
	}
	s := Scenario{Shape: ShapeFor(n), Seed: seed}
	if rnd.IntN(8) == 0 {
		if list := left(Solitary(true), without); len(list) > 0 {
			s.Faults = []Fault{list[rnd.IntN(len(list))]}
			return s
		}
	}
	list := left(Composable(), without)
	rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	free := n - 2 // somebody must be left to finish
	for _, f := range list[:1+rnd.IntN(3)] {
		if hit := max(1, f.Nodes-2); hit <= free && !(len(s.Faults) > 0 && n == 5 && hit > 1) {
			free -= hit
			s.Faults = append(s.Faults, f)
		}
	}
	if len(s.Faults) == 0 {
		s.Faults = list[:1]
	}
	return s
}

func left(list []Fault, without map[string]bool) []Fault {
	var out []Fault
	for _, f := range list {
		if !without[f.Name] {
			out = append(out, f)
		}
	}
	return out
}

// Summary counts how runs came out, by fault.
func Summary(list []*Result) string {
	type sum struct {
		runs, broken int
		worst        time.Duration
	}
	by, order := map[string]*sum{}, []string{}
	for _, r := range list {
		for _, f := range r.Faults {
			s := by[f.Name]
			if s == nil {
				s = &sum{}
				by[f.Name] = s
				order = append(order, f.Name)
			}
			s.runs++
			if len(r.Breaks) > 0 {
				s.broken++
			}
			s.worst = max(s.worst, r.Added)
		}
	}
	out := fmt.Sprintf("%-36s %5s %7s %12s\n", "fault (alone or with others)", "runs", "broken", "added, worst")
	for _, name := range order {
		s := by[name]
		out += fmt.Sprintf("%-36s %5d %7d %10.1f s\n", name, s.runs, s.broken, s.worst.Seconds())
	}
	return out
}
