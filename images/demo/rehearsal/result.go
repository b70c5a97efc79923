package rehearsal

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/kamethod/kamethod/images/compare"
)

// serveReport is what golden-serve --report writes.
type serveReport struct {
	Bytes int64       `json:"bytes"`
	Sent  int64       `json:"sent"`
	Kept  int64       `json:"kept"`
	Nodes []ServeNode `json:"nodes"`

	Verdict string   `json:"verdict"` // what the clones' files are
	Torn    []string `json:"torn"`
}

// exact is golden-serve's verdict where nothing changed while it was copied:
// nobody works on a golden root.
const exact = "EXACT"

// ServeNode is golden-serve's word on one node.
type ServeNode struct {
	Number   int                `json:"number"`
	MAC      string             `json:"mac"`
	Address  string             `json:"address"`
	Hostname string             `json:"hostname"`
	State    string             `json:"state"`
	Error    string             `json:"error"`
	Bytes    int64              `json:"bytes"`
	Seconds  map[string]float64 `json:"seconds"` // by stage

	Leftovers []string `json:"leftovers"` // where golden is still named
}

func (r serveReport) byMAC(mac string) *ServeNode {
	i := slices.IndexFunc(r.Nodes, func(n ServeNode) bool { return strings.EqualFold(n.MAC, mac) })
	if i < 0 {
		return nil
	}
	return &r.Nodes[i]
}

// Result is how it went.
type Result struct {
	Work          string
	Bytes         int64 // of one copy
	Sent, Kept    int64 // of these, by golden; what the machines had already
	Nodes         []*NodeResult
	GoldenChanged []compare.Difference // golden itself must not change
}

// NodeResult is the judgement over one clone.
type NodeResult struct {
	Name     string
	DiskSize int64
	Serve    ServeNode
	Prompt   string        // the host name in its log-in prompt
	Boot     time.Duration // from its reset to the prompt
	Report   *compare.Report
	Problems []string
}

func (j *NodeResult) problem(format string, args ...any) {
	j.Problems = append(j.Problems, fmt.Sprintf(format, args...))
}

// checkServe holds golden-serve's own word on a clone against what has to be.
func (j *NodeResult) checkServe(report serveReport, mac string) {
	s := report.byMAC(mac)
	if s == nil {
		j.problem("golden-serve's report doesn't name %s", mac)
		return
	}
	j.Serve = *s
	if report.Verdict != exact {
		j.problem("golden-serve's verdict is %q, want %s; torn: %q", report.Verdict, exact, report.Torn)
	}
	for _, l := range s.Leftovers {
		j.problem("golden is still named: %s", l)
	}
}

func (j *NodeResult) right() bool {
	return len(j.Problems) == 0 && len(j.Report.Differences) == 0 && j.Serve.Error == ""
}

// stages are the columns of the table, by the report's names.
var stages = []string{"stage1", "disk", "clone", "fixup"}

// shown is how many differences of one node are printed; all are in a file.
const shown = 20

// Print writes the table, and below it all that isn't right.
func (r *Result) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\nnode\taddress\tdisk MiB\t%s s\town boot s\tbytes\tentries\tdifferences\texpected\t\n", strings.Join(stages, " s\t"))
	for _, j := range r.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%d\t", j.Prompt, j.Serve.Address, j.DiskSize>>20)
		for _, s := range stages {
			fmt.Fprintf(t, "%.1f\t", j.Serve.Seconds[s])
		}
		fmt.Fprintf(t, "%.1f\t%d\t", j.Boot.Seconds(), j.Serve.Bytes)
		if j.Report != nil {
			fmt.Fprintf(t, "%d\t%d\t%d\t", j.Report.Entries, len(j.Report.Differences), len(j.Report.Expected))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	for _, j := range r.Nodes {
		for _, p := range j.Problems {
			fmt.Fprintf(w, "%s: PROBLEM %s\n", j.Name, p)
		}
		if j.Serve.Error != "" {
			fmt.Fprintf(w, "%s: PROBLEM golden-serve says: %s\n", j.Name, j.Serve.Error)
		}
		if j.Report == nil {
			continue
		}
		for _, d := range j.Report.Differences[:min(shown, len(j.Report.Differences))] {
			fmt.Fprintf(w, "%s: DIFFERENT %s\n", j.Name, d)
		}
		if more := len(j.Report.Differences) - shown; more > 0 {
			fmt.Fprintf(w, "%s: and %d more, in %s/%s.compare\n", j.Name, more, r.Work, j.Name)
		}
	}
	for _, d := range r.GoldenChanged {
		fmt.Fprintf(w, "GOLDEN CHANGED %s\n", d)
	}
}

// showLogs prints the ends of the logs and says where they are.
func (r *rehearsal) showLogs() {
	names := []string{r.path("golden-serve.log")}
	for _, n := range r.nodes {
		if n.machine != nil {
			names = append(names, n.machine.ConsoleLog())
		}
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
		fmt.Fprintf(r.Out, "\n=== the last lines of %s\n", name)
		for _, line := range lines[max(0, len(lines)-40):] {
			fmt.Fprintf(r.Out, "    %s\n", printable(line))
		}
	}
}

// printable keeps a console's escape sequences off the reader's terminal.
func printable(line []byte) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return -1
		}
		return c
	}, string(line))
}

// prefixer marks each line with whose it is.
type prefixer struct {
	w      io.Writer
	prefix string

	mu   sync.Mutex
	rest []byte
}

func (p *prefixer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		end := bytes.IndexAny(p.rest, "\n\r")
		if end < 0 {
			return len(b), nil
		}
		if end > 0 {
			fmt.Fprintf(p.w, "%s%s\n", p.prefix, p.rest[:end])
		}
		p.rest = p.rest[end+1:]
	}
}
