package sessionsfile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const good = `dhcp: full
dns: [10.0.0.1, 10.0.0.2]
deployments:
  - session: room1
    macs: [52:54:00:00:00:01, 52-54-00-00-00-02]
    root: /srv/room1
    exclude: [/tmp, /var/tmp]
    yes: true
  - session: tapes
    send: /srv/tapes.img
    nodes: 4
`

func TestParse(t *testing.T) {
	got, err := Parse(strings.NewReader(good), "f")
	if err != nil {
		t.Fatal(err)
	}
	want := File{
		Shared: []Word{{Name: "dhcp", Values: []string{"full"}}, {Name: "dns", Values: []string{"10.0.0.1", "10.0.0.2"}}},
		Deployments: []Deployment{
			{Session: "room1", MACs: []string{"52:54:00:00:00:01", "52:54:00:00:00:02"}, Words: []Word{
				{Name: "root", Values: []string{"/srv/room1"}}, {Name: "exclude", Values: []string{"/tmp", "/var/tmp"}}, {Name: "yes", Values: []string{"true"}}}},
			{Session: "tapes", Send: "/srv/tapes.img", Words: []Word{{Name: "nodes", Values: []string{"4"}}}},
		},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Word{})); d != "" {
		t.Error(d)
	}
	if err := got.Deployments[0].Words[1].Errorf("bad"); err.Error() != `f:7: "exclude": bad` {
		t.Error(err)
	}
}

// What is wrong is said with file, line and word.
func TestErrors(t *testing.T) {
	const one = "deployments:\n  - session: a\n"
	for text, want := range map[string]string{
		"":                                      "f: is empty",
		"- a":                                   `f:1: "": want a mapping`,
		"dhcp: full\n":                          "f:1: no deployments",
		"deployments: 3\n":                      `f:1: "3": want a list of deployments`,
		"deployments: []\n":                     "f:1: no deployments",
		"a: [":                                  "f: yaml:",
		"deployments:\n  - x\n":                 `f:2: "x": want a deployment`,
		"deployments:\n  - root: /\n":           "f:2: a deployment without session",
		"session: a\n" + one:                    `f:1: "session": is one deployment's`,
		one + "  - session: a\n":                `f:3: "a": is there twice, first in line 2`,
		one + "    root: /a\n    root: /b\n":    `f:4: "root": is there twice, first in line 3`,
		one + "    root:\n":                     `f:3: "": want one value`,
		one + "    root: {a: b}\n":              `f:3: "": want one value`,
		one + "    exclude: []\n":               `f:3: "exclude": 0 values`,
		one + "    root: |\n      a\n      b\n": `f:3: "a\nb\n": want one line`,
		one + "    ? [a]\n    : b\n":            `f:3: "": want a word`,
		one + "    root: &x /a\n    hostname: *x\n":           `f:4: "x": want one value`,
		one + "    macs: []\n":                                `names no machine`,
		one + "    macs: [nonsense]\n":                        `f:3: "nonsense": want a network card's address`,
		one + "    macs: [00:00:00:00:00:00]\n":               "is no single network card's",
		one + "    macs: [ff:ff:ff:ff:ff:ff]\n":               "is no single network card's",
		one + "    send: ''\n":                                "want a file, a device or a folder",
		one + "    send: '-'\n":                               "want a file, a device or a folder",
		one + "    send: /x\n    macs: [52:54:00:00:00:01]\n": `f:4: "macs": receivers are not named`,
		"deployments:\n  - session: a b\n":                    `f:2: "a b": want one word`,
		"deployments:\n  - session: a=b\n":                    `f:2: "a=b": want one word`,
		one + "---\n" + one:                                   "f: has several documents",
		one + "    macs: [52:54:00:00:00:01]\n  - session: b\n    macs:\n      - 52:54:00:00:00:02\n      - 52-54-00-00-00-01\n": `f:7: "52-54-00-00-00-01": is there twice, first in line 3`,
	} {
		if _, err := Parse(strings.NewReader(text), "f"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	many := "deployments:\n" + strings.Repeat("  - session: a\n", maxDeployments+1)
	if _, err := Parse(strings.NewReader(many), "f"); err == nil || !strings.Contains(err.Error(), "at most 64") {
		t.Error(err)
	}
	if _, err := Parse(strings.NewReader(strings.Repeat("#\n", maxBytes)), "f"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("deployments: [{session: a, macs: [52:54:00:00:00:01]}, {session: b, send: x}]")
	f.Add("a: &a [*a]\ndeployments: *a")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse(strings.NewReader(text), "f")
		if err != nil {
			return
		}
		macs, sessions := map[string]bool{}, map[string]bool{}
		for _, d := range file.Deployments {
			if d.Session == "" || sessions[d.Session] {
				t.Fatalf("session %q", d.Session)
			}
			sessions[d.Session] = true
			for _, m := range d.MACs {
				if macs[m] {
					t.Fatalf("machine %s twice", m)
				}
				macs[m] = true
			}
			for _, w := range d.Words {
				if len(w.Values) == 0 || w.Errorf("x").Error() == "" {
					t.Fatalf("%+v", w)
				}
			}
		}
	})
}
