package compare

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Run is what treecmp does: golden is a directory, clone a directory or, with
// parts ("1=/", "6=/home"), a disk image. A part "x=/dir" says that golden-serve
// was told to leave that directory empty.
func Run(ctx context.Context, golden, clone string, parts []string) (*Report, error) {
	g, err := Scan(golden)
	if err != nil {
		return nil, err
	}
	mountPoints, rules := map[int]string{}, CloneRules()
	for _, p := range parts {
		number, at, ok := strings.Cut(p, "=")
		if number == "x" && strings.HasPrefix(at, "/") {
			rules = append(rules, ExcludedRules(at)...)
			continue
		}
		n, err := strconv.Atoi(number)
		if !ok || err != nil || !strings.HasPrefix(at, "/") {
			return nil, fmt.Errorf("%q is not PARTITION=/MOUNTPOINT", p)
		}
		mountPoints[n] = at
	}
	if len(mountPoints) == 0 {
		c, err := Scan(clone)
		if err != nil {
			return nil, err
		}
		return Trees(g, c, rules), nil
	}
	table, err := Table(ctx, clone)
	if err != nil {
		return nil, err
	}
	for _, p := range table {
		if at := mountPoints[p.Number]; at != "" && p.FSType == "vfat" {
			rules = append(rules, FATRules(at)...)
		}
	}
	var report *Report
	err = Assembled(ctx, clone, table, mountPoints, func(root string) error {
		c, err := Scan(root)
		if err != nil {
			return err
		}
		report = Trees(g, c, rules)
		return nil
	})
	return report, err
}

// Print writes the report for a person.
func (r *Report) Print(w io.Writer) {
	for _, d := range r.Differences {
		fmt.Fprintln(w, "DIFFERENT", d)
	}
	for _, d := range r.Expected {
		fmt.Fprintf(w, "expected  %s (%s)\n", d, d.Reason)
	}
	fmt.Fprintf(w, "%d entries, %d bytes compared: %d differences, %d expected ones\n",
		r.Entries, r.Bytes, len(r.Differences), len(r.Expected))
}

// WriteFile puts the report into a file.
func (r *Report) WriteFile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	r.Print(f)
	return f.Close()
}
