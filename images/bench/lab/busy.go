package lab

import (
	"fmt"
	"os"
	"strings"
)

// Load is what the machine's processors have done since it started.
type Load struct{ all, idle uint64 }

// NowLoad reads the first line of /proc/stat (proc(5)).
func NowLoad() (l Load) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return l
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var t [8]uint64 // user nice system idle iowait irq softirq steal; guest is in user
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]); err != nil {
		return l
	}
	for _, x := range t {
		l.all += x
	}
	l.idle = t[3] + t[4]
	return l
}

// Since is the share of all processors that was busy since then; 0 where that
// isn't known.
func (l Load) Since(then Load) float64 {
	if l.all <= then.all {
		return 0
	}
	return 1 - float64(l.idle-then.idle)/float64(l.all-then.all)
}
