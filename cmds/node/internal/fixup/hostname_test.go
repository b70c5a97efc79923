package fixup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNodeName(t *testing.T) {
	for _, tt := range []struct {
		given, template string
		number          int
		want            string // "": an error
	}{
		{"", "", 3, "node3"},
		{"", "node%03d", 7, "node007"},
		{"", "node%03d", 1234, "node1234"},
		{"", "r1-n%d.cluster.lan", 12, "r1-n12.cluster.lan"},
		{"mine", "node%d", 0, "mine"},
		{"", "node", 1, "node"}, // a name: golden has seen to it that each is another one
		{"", "%d-%d", 1, ""},
		{"", "node%s", 1, ""},
		{"", "node%99999999d", 1, ""},
		{"", "node%0d", 1, ""},
		{"", "100%-%d", 1, ""},
		{"", "node%d", 0, ""},
		{"a b", "", 1, ""},
		{"-a", "", 1, ""},
		{"a-", "", 1, ""},
		{"a..b", "", 1, ""},
		{"a\nb", "", 1, ""},
		{"a\n", "", 1, ""},
		{"a_b", "", 1, ""},
		{strings.Repeat("a", 64), "", 1, ""}, // a label
		{strings.Repeat("a", 40) + "." + strings.Repeat("b", 24), "", 1, ""},
		{strings.Repeat("a", 63), "", 1, strings.Repeat("a", 63)},
	} {
		got, err := nodeName(tt.given, tt.template, tt.number)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("nodeName(%q, %q, %d) = %q, %v; want %q", tt.given, tt.template, tt.number, got, err, tt.want)
		}
	}
}

func TestRewriteHosts(t *testing.T) {
	for _, tt := range []struct{ name, in, old, now, want string }{
		{"Debian's", "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.lan\tgolden\n", "golden", "node1", "127.0.0.1\tlocalhost\n127.0.1.1\tnode1.lan\tnode1\n"},
		{"golden by its long name", "127.0.1.1 golden.lan golden\n", "golden.lan", "n1.site.org", "127.0.1.1 n1.site.org n1\n"},
		{"whole words", "127.0.1.1 golden golden2 goldenrod my-golden www.golden GOLDEN\n", "golden", "n1", "127.0.1.1 n1 golden2 goldenrod my-golden www.golden n1\n"},
		{"golden's address stays", "127.0.0.1 localhost\n10.0.0.1 golden # golden\n", "golden", "n1", "127.0.0.1 localhost\n10.0.0.1 golden # golden\n127.0.1.1\tn1\n"},
		{"no end of line", "::1 golden", "golden", "n1", "::1 n1"},
		{"never localhost", "127.0.0.1 localhost\n", "localhost", "n1", "127.0.0.1 localhost\n127.0.1.1\tn1\n"},
		{"golden unknown", "127.0.0.1 localhost\n", "", "n1.lan", "127.0.0.1 localhost\n127.0.1.1\tn1.lan n1\n"},
		{"comment only", "# 127.0.1.1 golden\n", "golden", "n1", "# 127.0.1.1 golden\n127.0.1.1\tn1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := rewriteHosts(tt.in, tt.old, tt.now)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if again, _ := rewriteHosts(got, tt.old, tt.now); again != got {
				t.Errorf("the second time: %q", again)
			}
		})
	}
}

func FuzzRewriteHosts(f *testing.F) {
	f.Add("127.0.1.1 golden.lan golden\n10.0.0.1 golden", "golden", "node1")
	f.Fuzz(func(t *testing.T, text, old, now string) {
		if checkHostname(now) != nil || (old != "" && checkHostname(old) != nil) {
			return
		}
		got, _ := rewriteHosts(text, old, now)
		short, _, _ := strings.Cut(now, ".")
		if indexToken(got, short, 0, nameBefore, nameAfter) < 0 {
			t.Fatalf("the clone's name %q isn't in %q", now, got)
		}
	})
}
