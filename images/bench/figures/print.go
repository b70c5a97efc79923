package figures

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/google/renameio/v2"
)

// Print writes the tables as a person reads them.
func (r *Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s, %d processors (%s), Linux %s, %.0f GB, TCP with %s\n\n", r.Date.Format("2006-01-02 15:04"),
		r.Machine.Processors, r.Machine.Model, r.Machine.Kernel, r.Machine.MemoryGB, r.Machine.Congestion)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "part\twhat\tN\tTLS\tlink\tours\tagainst\ttheirs\tunit\tratio\tbusy")
	last := ""
	for _, f := range r.Figures {
		if last != "" && last != f.Part {
			fmt.Fprintln(t, "\t\t\t\t\t\t\t\t\t\t")
		}
		last = f.Part
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.3f\t%s\n", f.Part, f.What, count(f.Receivers), yes(f.TLS), link(f.Link),
			number(f.Ours), f.Peer, number(f.Theirs), f.Unit, f.Ratio, percent(f.Busy))
	}
	fmt.Fprintln(t, "\npromise\tbound\tmeasured\t\t")
	for _, v := range r.Targets {
		bound, value := "≥ ", "-"
		if v.Most {
			bound = "≤ "
		}
		if v.State != Unknown {
			value = fmt.Sprintf("%.3f", v.Value)
		}
		fmt.Fprintf(t, "%s\t%s%g\t%s\t%s\t\n", v.Promise, bound, v.Bound, value, v.State)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note:", n)
	}
	return nil
}

// Save writes the report as JSON.
func (r *Report) Save(path string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return renameio.WriteFile(path, append(b, '\n'), 0o644)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func link(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func percent(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*x)
}

// number has three digits that say something.
func number(x float64) string {
	switch a := math.Abs(x); {
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
