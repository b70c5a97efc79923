package golden

import "testing"

func TestHostname(t *testing.T) {
	for template, want := range map[string]string{"": "node7", "node%03d": "node007", "lab": "lab", "pc-%d.lan": "pc-7.lan"} {
		if got := hostname(template, 7); got != want || checkHostname(template) != nil {
			t.Errorf("%q: %q, %v", template, got, checkHostname(template))
		}
	}
	for _, bad := range []string{"a b", "x%s", "%d%d", "rm;", "ä"} {
		if checkHostname(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
