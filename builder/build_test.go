package builder_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/kamethod/kamethod/builder"
	"github.com/kamethod/kamethod/templates"
	"github.com/klauspost/compress/zstd"
)

// testCommands stand in for the stages' own: these tests are about packing.
var testCommands = []string{
	"./builder/testdata/cmds/*",
	"github.com/u-root/u-root/cmds/core/gosh",
	"github.com/u-root/u-root/cmds/core/ls",
}

// recipe is a built-in recipe with other commands.
func recipe(t *testing.T, name string) *builder.Recipe {
	t.Helper()
	f, err := templates.Image().Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := builder.ParseRecipe(name, f)
	if err != nil {
		t.Fatal(err)
	}
	r.Commands = testCommands
	for i, l := range r.Links {
		if strings.HasSuffix(l.Target, "bbin/modprobe") {
			r.Links[i].Target = "../bbin/hello"
		}
	}
	return r
}

type built struct {
	dir      string
	manifest *builder.Manifest
	log      string
	err      error
}

var buildOnce = sync.OnceValue(func() built {
	dir, err := os.MkdirTemp("", "kamethod-builder-")
	return built{dir: dir, err: err}
})

var buildMu sync.Mutex
var theBuild *built

// images builds both images once for all tests. The kernel package is kept in
// the folder where `make image` keeps it.
func images(t *testing.T) *built {
	t.Helper()
	if testing.Short() {
		t.Skip("builds whole images")
	}
	buildMu.Lock()
	defer buildMu.Unlock()
	if theBuild == nil {
		b := buildOnce()
		theBuild = &b
		if b.err == nil {
			b.build(t)
		}
	}
	if theBuild.err != nil {
		t.Fatalf("%v\n%s", theBuild.err, theBuild.log)
	}
	return theBuild
}

func (b *built) build(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	extra := []builder.ExtraFile{{Name: "etc/extra", Mode: 0o640, Data: []byte("extra\n")}}
	b.manifest, b.err = builder.Build(ctx, builder.Config{
		Source: "..", Out: b.dir, Cache: "../images/.cache",
		Images: []builder.ImageConfig{
			{Name: "all.rdz", Format: builder.Initramfs, Recipe: recipe(t, "stage1.recipe"), Extra: extra, Goal: 15_613_654},
			{Name: "rescue.sqfs", Format: builder.Squashfs, Recipe: recipe(t, "stage2.recipe"), Extra: extra},
		},
		Tree: []builder.TreeFile{
			{Name: "tftp/images/all.rdz", Of: "all.rdz"},
			{Name: "tftp/messages", Data: []byte("hello\n")},
		},
		Progress: func(l string) { b.log += l + "\n" },
	})
}

func TestMain(m *testing.M) {
	code := m.Run()
	if theBuild != nil {
		os.RemoveAll(theBuild.dir)
	}
	os.Exit(code)
}

var _ = fmt.Sprint
var _ = bufio.NewReader
var _ = bytes.NewReader
var _ = io.EOF
var _ = exec.Command
var _ = filepath.Join
var _ = cpio.NewReader
var _ = zstd.NewReader

func TestTrial(t *testing.T) {
	b := images(t)
	t.Log(b.log)
	var s strings.Builder
	b.manifest.Table(&s)
	t.Log(s.String())
	exec.Command("cp", "-a", b.dir, "/tmp/trial").Run()
}
