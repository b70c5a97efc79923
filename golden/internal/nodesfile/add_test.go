package nodesfile

import (
	"fmt"
	"strings"
	"testing"
)

func nodeN(n int) string { return fmt.Sprintf("node%d", n) }

const two = "52:54:00:00:00:02"

func TestAdd(t *testing.T) {
	news := []Newcomer{{MAC: "52:54:00:00:00:01"}, {MAC: two, Label: "local", Comment: "seen\n\x1b[2J today"}}
	const entry2 = "- mac: 52:54:00:00:00:02 # seen  [2J today\n  name: node2\n  node_id: 2\n  label: local\n"
	deep := strings.ReplaceAll("  "+strings.TrimSuffix(entry2, "\n"), "\n", "\n  ") + "\n"
	for _, tt := range []struct{ name, text, want string }{
		{"block", "# the room\n- mac: 52:54:00:00:00:01   # mine\n\n  name:   'a'\n\n# the end", "# the room\n- mac: 52:54:00:00:00:01   # mine\n\n  name:   'a'\n\n# the end\n" + entry2},
		{"below nodes", "network: 10.0.0.0/8\nnodes:\n  - mac: 52:54:00:00:00:01\n", "network: 10.0.0.0/8\nnodes:\n  - mac: 52:54:00:00:00:01\n" + deep},
		{"not indented", "nodes:\n- mac: 52:54:00:00:00:01\n", "nodes:\n- mac: 52:54:00:00:00:01\n" + entry2},
		{"the list isn't last", "nodes: # these\n- mac: 52:54:00:00:00:01\nlabel: dolly # all\n",
			"nodes: # these\n  - mac: 52:54:00:00:00:01\n" + deep + "label: dolly # all\n"},
		{"flow", "# room\n[{mac: 52:54:00:00:00:01, name: x}] # flow\n", "# room\n# flow\n- {mac: '52:54:00:00:00:01', name: x}\n" + entry2},
	} {
		out, added, err := Add([]byte(tt.text), "n", news, nodeN)
		if err != nil || string(out) != tt.want || len(added) != 1 || added[0].MAC != two || added[0].Number != 2 {
			t.Errorf("%s: %v %+v\n%s\nwant\n%s", tt.name, err, added, out, tt.want)
		}
	}
	for _, text := range []string{"", "# nobody yet\n", "nodes:\n", "nodes: []\n", "[]"} {
		out, added, err := Add([]byte(text), "n", news, nodeN)
		if err != nil || len(added) != 2 || strings.Contains(text, "#") && !strings.HasPrefix(string(out), text) {
			t.Errorf("%q: %v %+v\n%s", text, err, added, out)
		}
	}
	out, added, err := Add([]byte("- mac: 52-54-00-00-00-02"), "n", news[1:], nodeN)
	if err != nil || added != nil || string(out) != "- mac: 52-54-00-00-00-02" {
		t.Errorf("who is in it already: %v %+v %q", err, added, out)
	}
}

// TestAddNumbers: neither a number nor a name is given twice, also not one that
// a machine has by its place alone.
func TestAddNumbers(t *testing.T) {
	const text = "- {mac: 52:54:00:00:00:0a, node_id: 2}\n- {mac: 52:54:00:00:00:0b}\n- {mac: 52:54:00:00:00:0c, name: Node3, node_id: 9}\n- mac: 52:54:00:00:00:0d\n"
	out, added, err := Add([]byte(text), "n", []Newcomer{{MAC: "52:54:00:00:00:01"}, {MAC: two}}, nodeN)
	if err != nil {
		t.Fatal(err)
	}
	if added[0].Number != 4 || added[0].Name != "node4" || added[1].Number != 5 || !strings.HasPrefix(string(out), text) {
		t.Errorf("%+v\n%s", added, out)
	}
	if _, _, err := Add([]byte("- mac: 52:54:00:00:00:0a\n- mac: 52:54:00:00:00:0a\n"), "n", nil, nodeN); err == nil || !strings.Contains(err.Error(), "n:2:") {
		t.Errorf("a wrong file: %v", err)
	}
}

// FuzzAdd: whatever the text is, afterwards it says the same of who was in it,
// and has the new ones; or it is refused.
func FuzzAdd(f *testing.F) {
	f.Add("- mac: 52:54:00:00:00:01 # x\n")
	f.Add("network: 10.0.0.0/8\nnodes:\n  - {mac: 52-54-00-00-00-01, node_id: 2}\nlabel: dolly\n")
	f.Add("nodes:\n")
	f.Add("# c\n[]\n...\n")
	f.Fuzz(func(t *testing.T, text string) {
		old, err := parse([]byte(text), "n", nil)
		if err != nil {
			return
		}
		out, added, err := Add([]byte(text), "n", []Newcomer{{MAC: two, Label: "local", Comment: text}}, nodeN)
		if err != nil {
			return
		}
		if err := old.holds(out, added); err != nil {
			t.Fatalf("%v: %q of %q", err, out, text)
		}
		if again, none, err := Add(out, "n", []Newcomer{{MAC: two}}, nodeN); err != nil || none != nil || string(again) != string(out) {
			t.Fatalf("again: %v %v %q", err, none, again)
		}
	})
}
