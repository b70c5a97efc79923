package fixup

import (
	"fmt"
	"io"
)

// Print writes the report for a person.
func (r Report) Print(w io.Writer) {
	fmt.Fprintf(w, "host name %s\n", r.Hostname)
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%-14s %s", s.Name, s.Took.Round(1e6))
		if s.Skipped != "" {
			fmt.Fprintf(w, "  nothing to do: %s", s.Skipped)
		}
		fmt.Fprintln(w)
		for _, f := range s.Files {
			fmt.Fprintf(w, "    %s: %s\n", f.Path, f.Why)
		}
		for _, m := range s.Warnings {
			fmt.Fprintf(w, "    warning: %s\n", m)
		}
	}
	for _, k := range r.HostKeys {
		fmt.Fprintf(w, "host key %s\n", k)
	}
	for _, l := range r.Leftovers {
		fmt.Fprintf(w, "left over %s\n", l)
	}
}
