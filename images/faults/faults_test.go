package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

var (
	lab     *Lab
	results struct {
		sync.Mutex
		list []*Result
	}
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("skipped: needs root, for network namespaces")
		os.Exit(0)
	}
	if status, ok := Isolate(); ok {
		os.Exit(status)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if lab, err = NewLab(os.Getenv("FAULTS_TAGS")); err != nil {
		fmt.Println(err)
		return 1
	}
	defer lab.Close()
	status := m.Run()
	slices.SortFunc(results.list, func(a, b *Result) int { return a.begun.Compare(b.begun) })
	for _, r := range results.list {
		fmt.Println(r)
	}
	return status
}

// nodes is how many receive: FAULTS_NODES, default 5.
func nodes() int {
	if n, err := strconv.Atoi(os.Getenv("FAULTS_NODES")); err == nil && n > 0 {
		return n
	}
	return 5
}

// seed is FAULTS_SEED, or a new one.
func seed() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("FAULTS_SEED"), 10, 64); err == nil {
		return n
	}
	return rand.Uint64N(1e6)
}

// try plays one fault; several tests run side by side.
func try(t *testing.T, f Fault) *Result {
	t.Helper()
	t.Parallel()
	s := Scenario{Shape: ShapeFor(nodes()), Seed: seed(), Faults: []Fault{f}}
	res, err := lab.Play(t.Context(), s)
	if err != nil {
		t.Fatalf("seed %d: %v", s.Seed, err)
	}
	results.Lock()
	results.list = append(results.list, res)
	results.Unlock()
	t.Log(res)
	for _, b := range res.Breaks {
		t.Errorf("seed %d: %s", s.Seed, b)
	}
	if t.Failed() || os.Getenv("FAULTS_LOG") != "" {
		t.Log("\n" + res.Log)
	}
	return res
}

// The figures of faults.md §5.3 stand before each.

func TestKilled(t *testing.T)            { try(t, Killed("killed", Anywhere, 1, 2*time.Second)) } // 1
func TestHung(t *testing.T)              { try(t, Hung()) }                                       // 3
func TestHungAndBack(t *testing.T)       { try(t, HungAndBack()) }                                // 4
func TestHungBriefly(t *testing.T)       { try(t, HungBriefly()) }                                //
func TestSlowDisk(t *testing.T)          { try(t, SlowDisk()) }                                   // 5
func TestPowerCycled(t *testing.T)       { try(t, Reset()) }                                      // 6
func TestUnplugged(t *testing.T)         { try(t, Unplugged()) }                                  // 7
func TestPartitioned(t *testing.T)       { try(t, Partitioned()) }                                // 7
func TestDeaf(t *testing.T)              { try(t, Deaf()) }                                       // 8
func TestMute(t *testing.T)              { try(t, Mute()) }                                       // 8
func TestLossy(t *testing.T)             { try(t, Lossy()) }                                      // 9
func TestRebooted(t *testing.T)          { try(t, Rebooted(true)) }                               // 10
func TestRebootedKeepsDisk(t *testing.T) { try(t, Rebooted(false)) }                              // 10
func TestTwoNeighbours(t *testing.T) {
	try(t, Killed("2 neighbours killed", Anywhere, 2, 10*time.Second))
} // 11
func TestThreeNeighbours(t *testing.T) {
	try(t, Killed("3 neighbours killed", Anywhere, 3, 15*time.Second))
}                                      // 12
func TestATenth(t *testing.T)          { try(t, KilledHereAndThere()) }                             // 12
func TestTail(t *testing.T)            { try(t, Killed("tail killed", -1, 1, 8*time.Second)) }      // 13
func TestFirst(t *testing.T)           { try(t, Killed("first node killed", 0, 1, 2*time.Second)) } // 14
func TestGoldenKilled(t *testing.T)    { try(t, GoldenKilled()) }                                   // 15
func TestGoldenRestarted(t *testing.T) { try(t, GoldenRestarted()) }                                // 15
func TestBrokenDisk(t *testing.T)      { try(t, BrokenDisk()) }                                     // 16
func TestFileTooLarge(t *testing.T)    { try(t, FileTooLarge()) }                                   // 16
func TestFullDisk(t *testing.T)        { try(t, FullDisk()) }                                       // 17
func TestLyingDisk(t *testing.T)       { try(t, LyingDisk()) }                                      // 18
func TestBadMemory(t *testing.T)       { try(t, BadMemory()) }                                      // 20
func TestBadSource(t *testing.T)       { try(t, BadSource()) }                                      // 21
func TestTooMany(t *testing.T)         { try(t, TooMany()) }                                        // 25
func TestTooFew(t *testing.T)          { try(t, TooFew()) }                                         // 26
func TestFewButEnough(t *testing.T)    { try(t, FewButEnough()) }                                   // 26
func TestRenumbered(t *testing.T)      { try(t, Renumbered()) }                                     // 29
func TestFlapped(t *testing.T)         { try(t, Flapped(8*time.Second)) }                           // 31
func TestInterrupted(t *testing.T)     { try(t, Interrupted()) }                                    // 33
func TestSlowLink(t *testing.T)        { try(t, SlowLink()) }

// 19. Two wrong bytes heal; a hop that goes on is cut out, and neither is a
// wrong byte kept; below TLS a wrong byte is a broken connection.
func TestCorruptTwice(t *testing.T) {
	try(t, Corrupting("2 bytes turned on a hop", 2, 4<<20, Finishes, true))
}

func TestCorruptHop(t *testing.T) {
	try(t, Corrupting("bytes turn on a hop, all the time", 1<<40, 3<<20, Either, true))
}

func TestCorruptBelowTLS(t *testing.T) {
	try(t, Corrupting("2 bytes turned below TLS", 2, 4<<20, Finishes, false))
}

// 24.
func TestLate(t *testing.T) {
	for _, share := range []float64{0.1, 0.5, 0.95, 1.02} {
		t.Run(fmt.Sprintf("%.0f%%", share*100), func(t *testing.T) { try(t, Late(share)) })
	}
}
