package mangle

import "testing"

func TestUndo(t *testing.T) {
	for field, want := range map[string]string{
		"": "", "/swap": "/swap", `/my\040swap`: "/my swap", `a\134040`: `a\040`, `\011\012`: "\t\n",
		`\04`: `\04`, `\089`: `\089`, `\400`: `\400`, `\377`: "\xff", `\`: `\`, `x\\040`: `x\ `,
	} {
		if got := Undo(field); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
	}
}

func FuzzUndo(f *testing.F) {
	f.Add(`/my swap\040`)
	f.Add("\t\n\\")
	f.Fuzz(func(t *testing.T, name string) {
		if got := Undo(Do(name)); got != name {
			t.Errorf("%q becomes %q", name, got)
		}
		if got := Undo(name); len(got) > len(name) {
			t.Errorf("%q becomes %q", name, got)
		}
	})
}
