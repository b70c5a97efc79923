// Package figures holds what was measured, judges it by what DESIGN promises,
// and prints it. It measures nothing.
//
//	Figure{ours, theirs, ratio} ─┬─▶ Judge ─▶ Verdict{promise, bound, value, met}
//	                             └────────────▶ table, JSON
package figures

import (
	"fmt"
	"strings"
	"time"
)

// Figure is one measurement beside another one of the same run.
type Figure struct {
	Part      string  `json:"part"` // a to h
	What      string  `json:"what"`
	Receivers int     `json:"receivers,omitempty"`
	TLS       bool    `json:"tls"`
	Link      string  `json:"link"` // rate of each link; "" unshaped
	Peer      string  `json:"peer"` // what it is measured against
	Unit      string  `json:"unit"`
	Ours      float64 `json:"ours"`
	Theirs    float64 `json:"theirs"`
	Ratio     float64 `json:"ratio"` // above 1: ours is better, unless Less
	Less      bool    `json:"less_is_better,omitempty"`
	Busy      float64 `json:"busy,omitempty"` // share of the machine's processors while ours ran, all programs
}

// By makes the ratio of a figure where more is better or, with Less, the cost
// of ours in parts of the peer's.
func (f Figure) By(theirs float64) Figure {
	f.Theirs = theirs
	if theirs > 0 {
		f.Ratio = f.Ours / theirs
	}
	return f
}

// Machine is where it was measured.
type Machine struct {
	Processors int     `json:"processors"`
	Model      string  `json:"model"`
	Kernel     string  `json:"kernel"`
	MemoryGB   float64 `json:"memory_gb"`
	Congestion string  `json:"congestion_control"` // of TCP, in the namespaces too
}

// Report is all of a run.
type Report struct {
	Date    time.Time `json:"date"`
	Quick   bool      `json:"quick,omitempty"`
	Machine Machine   `json:"machine"`
	Figures []Figure  `json:"figures"`
	Targets []Verdict `json:"targets"`
	Notes   []string  `json:"notes,omitempty"`
	Seconds float64   `json:"seconds"`
}

// Note keeps a remark.
func (r *Report) Note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Add keeps figures.
func (r *Report) Add(f ...Figure) { r.Figures = append(r.Figures, f...) }

// Missed is how many targets were measured and missed.
func (r *Report) Missed() (n int) {
	for _, t := range r.Targets {
		if t.State == Missed {
			n++
		}
	}
	return n
}

// Check finds figures that can't be: each has a positive ratio of two
// positive numbers.
func (r *Report) Check() error {
	var bad []string
	for _, f := range r.Figures {
		if !(f.Ours > 0 && f.Theirs > 0 && f.Ratio > 0) {
			bad = append(bad, fmt.Sprintf("%s: %s against %s: %g / %g", f.Part, f.What, f.Peer, f.Ours, f.Theirs))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("figures that can't be: %s", strings.Join(bad, "; "))
	}
	return nil
}
