package golden

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/stream"
)

// TestVerdict: what happens to golden's files while they are copied, and what
// the run is called then.
func TestVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"nothing":         {func(string) error { return nil }, "EXACT"},
		"a file is read":  {func(dir string) error { _, err := os.ReadFile(dir + "/a"); return err }, "EXACT"},
		"a file changes":  {func(dir string) error { return os.WriteFile(dir+"/a", []byte("other"), 0o600) }, "CONSISTENT-PER-FILE (1 files re-read, 0 torn)"},
		"an owner":        {func(dir string) error { return os.Chmod(dir+"/sub/c", 0o640) }, "CONSISTENT-PER-FILE (1 files re-read, 0 torn)"},
		"a file is gone":  {func(dir string) error { return os.Remove(dir + "/a") }, "CONSISTENT-PER-FILE (1 files re-read, 0 torn)"},
		"a file is new":   {func(dir string) error { return os.WriteFile(dir+"/sub/new", nil, 0o600) }, "CONSISTENT-PER-FILE (0 files re-read, 0 torn)"},
		"what's left out": {func(dir string) error { return os.WriteFile(dir+"/out/new", nil, 0o600) }, "EXACT"},
		"two names go separate ways": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/new", nil, 0o600), os.Rename(dir+"/new", dir+"/b2"), os.Remove(dir+"/b1"))
		}, "TORN (1 files; 1 re-read): /b1: is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := errors.Join(os.Mkdir(dir+"/sub", 0o755), os.Mkdir(dir+"/out", 0o755))
			for _, f := range []string{"/a", "/b1", "/sub/c"} {
				err = errors.Join(err, os.WriteFile(dir+f, []byte(f), 0o600))
			}
			if err = errors.Join(err, os.Link(dir+"/b1", dir+"/b2")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // so that no change has the ctime of the making: a kernel's tick is 10 ms at most
			tree, err := stream.Scan(context.Background(), stream.ScanOptions{Root: dir, Excludes: []string{"/out"}})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			tree.Spool = t.TempDir()
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := tree.Settle(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			whole, err := stream.NewWhole(tree, nil)
			if err != nil {
				t.Fatal(err)
			}
			f := ferry{src: whole}
			r := Result{Torn: f.torn()}
			r.Verdict, r.Reread = f.judge()
			if got := r.Summary(); got != c.want && !(strings.HasPrefix(c.want, "TORN") && strings.HasPrefix(got, c.want)) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
