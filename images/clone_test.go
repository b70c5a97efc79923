// Package images holds the test of what `make image` puts beside it: two
// machines that boot from the network become clones and boot by themselves.
//
//	golden root ─▶ golden-serve ─▶ node1 (virtio disk of 3 GiB)
//	  (cloud kernel)      └──────▶ node2 (IDE disk of 4 GiB)
package images

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
)

// TestClone plays the whole job on the small golden root: PXE, stage 1, the
// chain, stage 2, the boot from the own disk, and the judgement from outside.
func TestClone(t *testing.T) {
	playClone(t, rehearsal.Config{Kind: goldenroot.Cloud, Nodes: 2})
}

// playClone is TestClone's body, for machines of any kind.
func playClone(t *testing.T, cfg rehearsal.Config) *rehearsal.Result {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces, mounts, a Debian root")
	}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"images/vmlinuz", "images/all.rdz", "images/rescue.sqfs"} {
		if _, err := os.Stat(filepath.Join(top, name)); err != nil {
			t.Fatalf("%v: make image makes it", err)
		}
	}
	// Not t.TempDir: the logs of a failure must outlive the test.
	work, err := os.MkdirTemp("/var/tmp", "kamethod-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("consoles and logs are kept in ", work)
		}
		if err := rehearsal.TidyUp(work, t.Failed()); err != nil {
			t.Error(err)
		}
	})
	cfg.Top, cfg.Work, cfg.Accel, cfg.Out = top, work, os.Getenv("ACCEL"), t.Output()
	result, err := rehearsal.Run(t.Context(), cfg)
	if result != nil && len(result.Nodes) > 0 {
		result.Print(t.Output())
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Nodes) != cfg.Nodes {
		t.Errorf("%d of %d nodes were judged", len(result.Nodes), cfg.Nodes)
	}
	for _, n := range result.Nodes {
		// A comparison of little would find little.
		if n.Report.Entries < 10_000 {
			t.Errorf("%s: only %d entries were compared", n.Name, n.Report.Entries)
		}
		if n.Serve.Bytes <= 0 {
			t.Errorf("%s: golden-serve reports %d bytes", n.Name, n.Serve.Bytes)
		}
	}
	return result
}
