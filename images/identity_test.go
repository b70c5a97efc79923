package images

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
)

// TestNodesFile clones one machine by a nodes file: it boots under the name
// there, its address is leased to it and written into its files, a hook has
// run, and golden has its host keys and knows what was changed. `make vmtest`.
func TestNodesFile(t *testing.T) {
	if os.Getenv("VMTEST") == "" && os.Getenv("CELL") != "identity" {
		t.Skip("make vmtest runs it: VMTEST=1 or CELL=identity")
	}
	t.Parallel() // with another machine: an emulated one keeps one processor busy
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	nodes := put("nodes.yaml", "- mac: 52:54:00:77:00:01\n  name: alpha\n  address: 10.77.0.50/24\n  gateway: 10.77.0.1\n  node_id: 7\n  note: upstairs\n", 0o644)
	put("post.d/10-mark", "#!/bin/sh\necho \"$KAMETHOD_NODE $KAMETHOD_HOSTNAME $KAMETHOD_MAC\" >/etc/kamethod-hook\n", 0o755)
	known := filepath.Join(dir, "known_hosts")
	const network = "/etc/systemd/network/lan.network"
	result := playClone(t, rehearsal.Config{
		Kind: goldenroot.Cloud, Nodes: 1,
		Serve: []string{"--nodes-file", nodes, "--post-dir", filepath.Join(dir, "post.d"), "--known-hosts", known, "--identity", "clone"},
		Rules: []compare.Rule{
			{Path: network, Aspects: []compare.Aspect{compare.Content, compare.Size, compare.Mtime, compare.Allocation}, Reason: "the node's own address"},
			{Path: "/etc/systemd/network", Aspects: []compare.Aspect{compare.Mtime}, Reason: "holds it"},
			{Path: "/etc/kamethod-hook", Aspects: []compare.Aspect{compare.Extra}, Reason: "made by the hook"},
		},
	})
	var r golden.Result
	b, err := os.ReadFile(filepath.Join(result.Work, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || len(r.Nodes) != 1 {
		t.Fatalf("%d nodes in the report, %v", len(r.Nodes), err)
	}
	n := r.Nodes[0]
	if n.Number != 7 || n.Hostname != "alpha" || n.Note != "upstairs" || n.Address != "10.77.0.50" {
		t.Errorf("node %d %s %s at %s", n.Number, n.Hostname, n.Note, n.Address)
	}
	touched := map[string]bool{}
	for _, s := range n.Steps {
		for _, f := range s.Files {
			touched[f.Path] = touched[f.Path] || f.Why != ""
		}
	}
	for _, want := range []string{network, "/etc/hostname", "/etc/fstab", "/etc/machine-id", "post.d/10-mark"} {
		if !touched[want] {
			t.Errorf("the report doesn't say why %s was changed: %v", want, touched)
		}
	}
	for _, l := range n.Leftovers {
		t.Errorf("golden is still named: %s", l)
	}
	for _, host := range []string{"alpha", "10.77.0.50"} {
		out, err := exec.Command("ssh-keygen", "-F", host, "-f", known).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ssh-ed25519") {
			t.Errorf("ssh-keygen -F %s: %v\n%s", host, err, out)
		}
	}
}
