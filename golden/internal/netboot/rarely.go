package netboot

import (
	"sync/atomic"
	"time"
)

// rarely lets a log message pass once a second: a flood of packets isn't to
// become one of lines.
type rarely struct{ last atomic.Int64 }

func (r *rarely) now(t time.Time) bool {
	last, now := r.last.Load(), t.UnixNano()
	return now-last >= int64(time.Second) && r.last.CompareAndSwap(last, now)
}
