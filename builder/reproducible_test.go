package builder_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/builder"
)

// TestTwoFoldersOneHash builds a small module in two folders with different
// names and surroundings. scripts/check-reproducible.sh does it with the
// whole checkout.
func TestTwoFoldersOneHash(t *testing.T) {
	b := images(t)
	var got []*builder.Manifest
	for i, sub := range []string{"a", "another/much/longer/folder"} {
		src := filepath.Join(t.TempDir(), sub)
		for name, text := range map[string]string{
			"go.mod":                "module example.com/twice\n\ngo 1.26\n",
			"cmds/greet/main.go":    "package main\n\nimport \"example.com/twice/word\"\n\nfunc main() { println(word.Word()) }\n",
			"cmds/complain/main.go": "package main\n\nfunc main() { panic(\"with a source path\") }\n",
			"word/word.go":          "package word\n\nfunc Word() string { return \"hello\" }\n",
		} {
			file := filepath.Join(src, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if i == 1 { // what must not matter
			t.Setenv("GOFLAGS", "-tags=other")
			t.Setenv("GOAMD64", "v2")
			t.Setenv("LC_ALL", "C")
			t.Setenv("TZ", "Pacific/Auckland")
			t.Setenv("SOURCE_DATE_EPOCH", "1234567890")
		}
		rec := &builder.Recipe{
			Commands: []string{"./cmds/*"},
			Modules:  []builder.ModulePattern{{Pattern: "virtio_net"}, {Pattern: "ext4"}},
			Programs: []builder.HostFile{{Name: "blkid"}, {Name: "sfdisk"}},
		}
		kernels, _ := filepath.Glob("../images/.cache/kernel/*/boot/vmlinuz-" + b.manifest.Kernel.Release)
		if len(kernels) == 0 {
			t.Fatal("no kernel in the cache")
		}
		m, err := builder.Build(t.Context(), builder.Config{
			Source: src, Out: filepath.Join(src, fmt.Sprint("out", i)), Kernel: builder.KernelSource{Image: kernels[0]},
			Images: []builder.ImageConfig{
				{Name: "x.rdz", Format: builder.Initramfs, Recipe: rec},
				{Name: "x.sqfs", Format: builder.Squashfs, Recipe: rec},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	if d := cmp.Diff(got[0], got[1]); d != "" {
		t.Errorf("first and second build differ: %s", d)
	}
}

// TestErrorsNameTheThing: what a recipe asks for in vain is named.
func TestErrorsNameTheThing(t *testing.T) {
	b := images(t)
	kernels, _ := filepath.Glob("../images/.cache/kernel/*/boot/vmlinuz-" + b.manifest.Kernel.Release)
	if len(kernels) == 0 {
		t.Fatal("no kernel in the cache")
	}
	for want, rec := range map[string]*builder.Recipe{
		"no-such-program":         {Programs: []builder.HostFile{{Name: "no-such-program", Line: 3}}},
		"/etc/no-such-file":       {Files: []builder.HostFile{{Name: "/etc/no-such-file", Line: 4}}},
		"./cmds/no-such-folder/*": {Commands: []string{"./cmds/no-such-folder/*"}},
		"/bbin/init":              {Links: []builder.Link{{Name: "/init", Target: "bbin/init"}}},
		"not a command":           {Commands: []string{"./builder", "./builder/testdata/cmds/hello"}},
	} {
		_, err := builder.Build(t.Context(), builder.Config{
			Source: "..", Out: t.TempDir(), Kernel: builder.KernelSource{Image: kernels[0]},
			Images: []builder.ImageConfig{{Name: "x.rdz", Format: builder.Initramfs, Recipe: rec}},
		})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.rdz") {
			t.Errorf("want an error with %q and the image's name, got: %v", want, err)
		}
	}
}
