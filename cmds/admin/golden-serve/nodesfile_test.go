package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNodesFile: each machine of a nodes file hears its own boot line, from
// golden-serve itself; who has come besides is added to the file, from the
// session that runs and from what it has left.
func TestNodesFile(t *testing.T) {
	o := newOffice(t)
	const one, two, three, four, five = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03", "52:54:00:00:00:04", "52:54:00:00:00:05"
	const text = "# upstairs\nnetwork: 10.78.0.0/24\nnodes:\n" +
		"  - {mac: 52:54:00:00:00:01, name: alpha, address: 10.78.0.31/24, node_id: 7, append: vga=788}\n" +
		"  - mac: 52:54:00:00:00:02   # the second\n    label: dolly\n" +
		"  - mac: 52:54:00:00:00:03\n    label: local\n" +
		"  - mac: 52:54:00:00:00:04\n    label: http\n    server: 10.78.0.253\n    directory: /cs4\n"
	file := filepath.Join(o.dir, "nodes.yaml")
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"nodes", file}, {"nodes", "--check", file, "--interface", "eth0"}, {"nodes", file, "--network", "10.78.0.0/16"}} {
		out, _ := o.run(0, args...)
		for _, want := range []string{"7        " + one + "  alpha  10.78.0.31/24", two + "  -      -              dolly", "10.78.0.253:/cs4"} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %q in\n%s", args, want, out)
			}
		}
	}
	for _, bad := range []struct{ text, want string }{
		{text + "  - mac: 52-54-00-00-00-01\n", `nodes.yaml:13: "52-54-00-00-00-01": is there twice, first in line 4`},
		{text + "  - mac: " + five + "\n    address: 10.79.0.5/24\n", `nodes.yaml:14: "10.79.0.5/24": is outside of the network 10.78.0.0/24`},
		{text + "  - mac: " + five + "\n    label: locale\n", `nodes.yaml:14: "locale": no such label`},
	} {
		if err := os.WriteFile(file, []byte(bad.text), 0o640); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"nodes", file}, {"nodes", "--add", file, five}, {"clone", "--nodes-file", file, "--images", "images"}} {
			if _, say := o.run(2, args...); !strings.Contains(say, bad.want) {
				t.Errorf("%v says %q, want %q", args, say, bad.want)
			}
		}
	}
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, say := o.run(2, "nodes", file, "--network", "10.80.0.0/16"); !strings.Contains(say, "is another network than 10.80.0.0/16") {
		t.Errorf("another network: %s", say)
	}

	c, _ := o.clone("--nodes-file", file)
	for mac, want := range map[string]string{
		one:   "APPEND automatic=method:ka,interface:auto,network:dhcp rw kamethod vga=788 node_id=7 console=",
		two:   "APPEND automatic=method:dolly,dolly_timeout:100,interface:auto,network:dhcp rw rescue dollymethod node_id=1 console=",
		three: "DEFAULT local",
		four:  "APPEND automatic=method:http,interface:auto,network:dhcp,server:10.78.0.253,directory:/cs4 rw rescue node_id=3 console=",
		five:  "DEFAULT local",
	} {
		if got := o.boots(mac); !strings.Contains(got, want) {
			t.Errorf("%s hears, and %q is wanted:\n%s", mac, want, got)
		}
	}
	o.wantState(five, "seen", "running")
	out, say := o.run(0, "nodes", "--add", file)
	const entry = "  - mac: 52:54:00:00:00:05 # seen "
	got, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(got), text+entry) || !strings.HasSuffix(string(got), "\n    name: node4\n    node_id: 4\n    label: local\n") {
		t.Errorf("%v, the file is now\n%s", err, got)
	}
	if !strings.Contains(out, five) || !strings.Contains(say, "1 added to") {
		t.Errorf("nodes --add says\n%s%s", out, say)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, mode %v", err, st.Mode())
	}
	if err := c.Process.Signal(os.Interrupt); err != nil { // killed, it would forget who was only seen
		t.Fatal(err)
	}
	c.Wait()
	other := filepath.Join(o.dir, "other.yaml")
	if _, say := o.run(0, "nodes", "--add", other, "--hostname", "n%03d"); !strings.Contains(say, "5 added to") || !strings.Contains(say, "no golden-serve of session") {
		t.Errorf("from the journal: %s", say)
	}
	if out, _ := o.run(0, "nodes", other); !strings.Contains(out, "5        "+five+"  n005  -        local") {
		t.Errorf("the new file:\n%s", out)
	}
	if out, _ := o.run(0, "nodes", "--add", other, "--label", "kamethod", "52-54-00-00-00-09"); !strings.Contains(out, "6        52:54:00:00:00:09  node6  -        kamethod") {
		t.Errorf("one by name:\n%s", out)
	}
	for _, args := range [][]string{{"nodes", "--add", other, "x"}, {"nodes", "--add", other, "--hostname", "same"}, {"nodes", "--add", other, "--label", "rack"}, {"nodes", "--add", other, "--check", other}, {"nodes", other, other}} {
		o.run(2, args...)
	}
}
