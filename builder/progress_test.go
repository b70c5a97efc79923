package builder

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Who is told of progress need not guard against being told twice at once.
func TestProgressComesOneAtATime(t *testing.T) {
	var inside, both atomic.Int32
	r := &run{Config: Config{Progress: func(string) {
		if inside.Add(1) > 1 {
			both.Add(1)
		}
		time.Sleep(time.Millisecond)
		inside.Add(-1)
	}}, started: time.Now()}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				r.say("x")
			}
		})
	}
	wg.Wait()
	if both.Load() > 0 {
		t.Errorf("%d lines came while another was being taken", both.Load())
	}
}
