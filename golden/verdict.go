package golden

import "fmt"

// Verdict is what the clones' files are, taken together: a run never ends
// with a bare "done".
type Verdict string

// Verdicts.
const (
	// Exact: nothing changed while it was copied (golden was not in use, or a
	// snapshot was read), and every node has every byte with its hash.
	Exact Verdict = "EXACT"
	// PerFile: some of it changed; each file is as it was at one moment, but
	// not all at the same.
	PerFile Verdict = "CONSISTENT-PER-FILE"
	// Torn: some files are not as they ever were; Result.Torn names them.
	Torn Verdict = "TORN"
)

// judge gives the verdict over what was sent, and how many files were read
// again as they had changed.
func (f *ferry) judge() (v Verdict, reread int) {
	dirs := 0
	if s, ok := f.src.(interface{ Moved() (files, dirs int) }); ok {
		reread, dirs = s.Moved()
	}
	switch {
	case len(f.torn()) > 0:
		return Torn, reread
	case reread > 0 || dirs > 0:
		return PerFile, reread
	}
	return Exact, reread
}

// Summary is the verdict in a line.
func (r Result) Summary() string {
	switch r.Verdict {
	case PerFile:
		return fmt.Sprintf("%s (%d files re-read, 0 torn)", r.Verdict, r.Reread)
	case Torn:
		return fmt.Sprintf("%s (%d files; %d re-read): %s", r.Verdict, len(r.Torn), r.Reread, tornText(r.Torn))
	}
	return string(r.Verdict)
}
