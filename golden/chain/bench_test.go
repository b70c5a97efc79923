package chain

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// cpu is what the process has used.
func cpu() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkChain is a head and its nodes on one machine, over loopback: the
// processor is the limit. cpu-s/GB is of head and nodes together, by byte
// delivered to one node.
func BenchmarkChain(b *testing.B) {
	for _, n := range []uint32{1, 4} {
		for _, plain := range []bool{true, false} {
			b.Run(fmt.Sprintf("nodes=%d plain=%v", n, plain), func(b *testing.B) {
				m := newMemory(b, 1, false, 256<<20)
				m.streams[0] = wire.NewStream(0, wire.ImageStream, 256<<20)
				b.SetBytes(256 << 20)
				before := cpu()
				for b.Loop() {
					l := newLab(b, m, func(h *Head) { h.Plain = plain })
					for i := range n {
						l.add(i+1, m, nil)
					}
					l.run()
				}
				b.ReportMetric((cpu()-before).Seconds()/float64(b.N)/0.268435456/float64(n), "cpu-s/GB")
			})
		}
	}
}
