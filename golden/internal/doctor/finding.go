package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Severity says how much a finding matters.
type Severity string

// The severities. Warning and Error make an exit status of 1.
const (
	OK      Severity = "ok"      // was tried, and works
	Note    Severity = "note"    // worth knowing, nothing to do
	Warning Severity = "warning" // some machines may not boot, or only slowly
	Error   Severity = "error"   // machines will not boot
)

// Finding is one thing that was found out.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`      // what it is about: a port, a file, a machine
	What     string   `json:"what"`         // what is so
	Do       string   `json:"do,omitempty"` // what to do about it
}

// Step is one thing that a machine said or heard.
type Step struct {
	Time time.Time `json:"time"`
	What string    `json:"what"`
}

// Report is all that was found out, the worst first.
type Report struct {
	Interface string    `json:"interface"`
	Address   string    `json:"address,omitempty"`
	Findings  []Finding `json:"findings"`
	Node      string    `json:"node,omitempty"`
	State     string    `json:"state,omitempty"` // of Node, as the running golden-serve says
	Story     []Step    `json:"story,omitempty"` // of Node, in order
}

// Wrong tells whether something is to be done.
func (r *Report) Wrong() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error || f.Severity == Warning })
}

func (r *Report) sort() {
	rank := map[Severity]int{Error: 0, Warning: 1, Note: 2, OK: 3}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return rank[a.Severity] - rank[b.Severity] })
}

// JSON writes the report as one JSON object.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	if r.Node != "" {
		r.story(&b)
	}
	count := map[Severity]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
		label := string(f.Severity)
		if f.Severity == Error {
			label = "ERROR"
		}
		fmt.Fprintf(&b, "%-8s %s: %s  [%s]\n", label, clean(f.Subject), clean(f.What), f.ID)
		if f.Do != "" {
			fmt.Fprintf(&b, "         do: %s\n", clean(f.Do))
		}
	}
	switch {
	case !r.Wrong():
		b.WriteString("\nNothing is wrong that the doctor can see.\n")
	default:
		fmt.Fprintf(&b, "\n%s, %s. Begin with the first.\n", number(count[Error], "error"), number(count[Warning], "warning"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) story(b *strings.Builder) {
	fmt.Fprintf(b, "Machine %s on %s", r.Node, r.Interface)
	if r.State != "" {
		fmt.Fprintf(b, ", %s", clean(r.State))
	}
	b.WriteString("\n")
	for _, s := range r.Story {
		fmt.Fprintf(b, "  %s  %s\n", s.Time.Format("15:04:05.000"), clean(s.What))
	}
	if len(r.Story) == 0 {
		b.WriteString("  said nothing\n")
	}
	b.WriteString("\n")
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// clean keeps what came from the wire from steering the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
