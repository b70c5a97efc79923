package images

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

// TestCloneOverBase clones with a stage 2 that mkimage --base lays over
// somebody's own rescue system, whose programs are there besides ours: its
// shell is the one that answers. `make vmtest CELL=base`.
func TestCloneOverBase(t *testing.T) {
	if os.Getenv("VMTEST") == "" {
		t.Skip("make vmtest CELL=base runs it: VMTEST=1")
	}
	base, out := t.TempDir(), t.TempDir()
	writeAll(t, base, map[string]string{"etc/rescue-release": "rescue of 2006\n"})
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skipf("%v: scripts/setup.sh installs it", err)
	}
	text, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(base, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.WriteFile(filepath.Join(bin, "busybox"), text, 0o755),
		os.Symlink("busybox", filepath.Join(bin, "sh")), os.Symlink("busybox", filepath.Join(bin, "expr"))); err != nil {
		t.Fatal(err)
	}
	mkimage := exec.CommandContext(t.Context(), "go", "run", "./cmds/admin/mkimage", "--base", base, "--out", out, "--cache", ".cache")
	mkimage.Dir = ".."
	if b, err := mkimage.CombinedOutput(); err != nil {
		t.Fatalf("mkimage --base: %v\n%s", err, b)
	}
	looked := make(chan error, 1)
	playClone(t, rehearsal.Config{
		Kind: goldenroot.Cloud, Nodes: 1, Serve: []string{"--images", out},
		Lab: func(ctx context.Context, lab *vmlab.Lab) error {
			go func() {
				if err := waitForText(ctx, filepath.Join(lab.Dir, "golden-serve.log"), "phase: sending the golden node"); err != nil {
					looked <- err
					return
				}
				looked <- administrator{t, lab}.wants(ctx, []string{`^node1: 7 rescue of 2006$`},
					"exec", "all", "--", "sh", "-c", "echo $(expr 3 + 4) $(cat /etc/rescue-release)")
			}()
			return nil
		},
	})
	if err := <-looked; err != nil {
		t.Error(err)
	}
}
