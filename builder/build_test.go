package builder_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kamethod/kamethod/builder"
	"github.com/kamethod/kamethod/templates"
)

// testCommands stand in for the stages' own: these tests are about packing.
var testCommands = []string{
	"./builder/testdata/cmds/*",
	"./cmds/node/stage1/sh",
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

var (
	buildMu  sync.Mutex
	theBuild *built
)

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
		theBuild = &built{}
		if theBuild.dir, theBuild.err = os.MkdirTemp("", "kamethod-builder-"); theBuild.err == nil {
			theBuild.build(t)
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
			{Name: "tftp/go.mod", From: "../go.mod"},
			{Name: "tftp/syslinux.efi", From: "/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi", Package: "syslinux-efi", Optional: true},
			{Name: "tftp/nobodys.efi", From: "/nonexistent/nobodys.efi", Package: "kamethod-has-no-such-package", Optional: true},
			{Name: "tftp/quiet.efi", From: "/nonexistent/quiet.efi", Optional: true},
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
