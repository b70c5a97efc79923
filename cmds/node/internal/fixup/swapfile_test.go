package fixup

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSwapFiles makes a real one anew, by the machine's own mkswap.
func TestSwapFiles(t *testing.T) {
	for _, p := range []string{"mkswap", "blkid"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s here: package util-linux", p)
		}
	}
	const fstab = "/dev/sda1 / ext4 x 0 1\n/swap\\040file none swap sw 0 0\n/swap\\040file none swap pri=2 0 0\n#/no swap swap x 0 0\n" +
		"/dev/sda5 none swap sw 0 0\n/gone none swap sw 0 0\n/text none swap sw 0 0\n/folder none swap sw 0 0\n"
	c := hostClone(t, map[string]string{"etc/fstab": fstab, "text": "golden's", "no": "", "folder/x": ""}, slog.New(slog.DiscardHandler))
	file := filepath.Join(c.tree.path, "swap file")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkswap", "-U", swapWas, "-L", "my swap", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var rep StepReport
	if err := fixSwapFiles(t.Context(), c, &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Files) != 1 || rep.Files[0].Path != "/swap file" {
		t.Errorf("files %+v", rep.Files)
	}
	for _, want := range []string{"/gone isn't on the clone", "/text is left as it is: it isn't one", "/folder, which fstab swaps to, is no file"} {
		if !strings.Contains(strings.Join(rep.Warnings, "\n"), want) {
			t.Errorf("no %q in %q", want, rep.Warnings)
		}
	}
	if len(rep.Warnings) != 3 {
		t.Errorf("warnings %q", rep.Warnings)
	}
	if got := c.tree.firstLine("/text"); got != "golden's" {
		t.Errorf("a text became %q", got)
	}
	out, err := exec.Command("blkid", "-p", "-o", "export", file).Output()
	if s := string(out); err != nil || !strings.Contains(s, "TYPE=swap") || !strings.Contains(s, `LABEL=my\ swap`) || strings.Contains(s, swapWas) || !strings.Contains(s, "\nUUID=") {
		t.Errorf("%v: %s", err, s)
	}
	if fi, err := os.Stat(file); err != nil || fi.Size() != 1<<20 || fi.Mode() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}

// TestSwapFileWithoutMkswap: golden's stays, and that is said.
func TestSwapFileWithoutMkswap(t *testing.T) {
	page := string(make([]byte, 4086)) + "SWAPSPACE2"
	c := newTestClone(t, t.TempDir(), map[string]string{"etc/fstab": "/swap.img none swap sw 0 0\n", "swap.img": page}, nil)
	var rep StepReport
	if err := fixSwapFiles(t.Context(), c, &rep); err != nil || len(rep.Warnings) != 1 || !strings.Contains(rep.Warnings[0], "no mkswap") {
		t.Errorf("%v, %+v", err, rep)
	}
}
