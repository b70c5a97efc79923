package console

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLine(t *testing.T) {
	var a, b, kmsg bytes.Buffer
	c := &Console{outs: []io.Writer{&a, &b}, kmsg: &kmsg}
	c.Line("kamethod stage 1: %s", "net\x1b[2Jwork\tup")
	c.Logger().Info("asking", "interface", "eth0")
	c.Logger().Warn("two\nlines")
	want := "kamethod stage 1: net[2Jwork up\nmsg=asking interface=eth0\nlevel=WARN msg=\"two\\nlines\"\n"
	if d := cmp.Diff(want, a.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if a.String() != b.String() {
		t.Error("the second console has something else")
	}
	if want := "<15>kamethod stage 1: net[2Jwork up\n<15>msg=asking interface=eth0\n"; !bytes.HasPrefix(kmsg.Bytes(), []byte(want)) {
		t.Errorf("kernel log %q", kmsg.String())
	}
}

func TestActive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "active")
	if err := os.WriteFile(path, []byte("tty0 ../x ttyS0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"tty0", "ttyS0"}, active(path)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got := active(path + "x"); got != nil {
		t.Errorf("got %v", got)
	}
}
