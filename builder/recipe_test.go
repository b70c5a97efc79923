package builder

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRecipe(t *testing.T) {
	got, err := ParseRecipe("x", strings.NewReader(`
# a comment
command  ./cmds/x/*
command  example.com/y   # another
module   kernel/drivers/net/...
nomodule kernel/drivers/net/wan/...
program  mke2fs
program? mkfs.xfs
file     /etc/mke2fs.conf
dir      /tmp 1777
dir      /proc
link     /init bbin/init
program? lvm lvm2
library  libgcc_s.so.1
file?    /usr/share/misc/usb.ids usb.ids
names    /usr/share/misc/pci.ids pci.ids
link?    /bin/sh x
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Recipe{
		Commands:  []string{"./cmds/x/*", "example.com/y"},
		Modules:   []ModulePattern{{"kernel/drivers/net/...", false}, {"kernel/drivers/net/wan/...", true}},
		Programs:  []HostFile{{"mke2fs", false, 7, ""}, {"mkfs.xfs", true, 8, ""}, {"lvm", true, 13, "lvm2"}},
		Libraries: []HostFile{{"libgcc_s.so.1", false, 14, ""}},
		Files:     []HostFile{{"/etc/mke2fs.conf", false, 9, ""}, {"/usr/share/misc/usb.ids", true, 15, "usb.ids"}},
		Names:     []HostFile{{"/usr/share/misc/pci.ids", false, 16, "pci.ids"}},
		Dirs:      []Dir{{"/tmp", fs.ModeSticky | 0o777}, {"/proc", 0o755}},
		Links:     []Link{{"/init", "bbin/init", false}, {"/bin/sh", "x", true}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseRecipeRefuses(t *testing.T) {
	for _, tc := range []struct{ text, line, word string }{
		{"dir /a\nmodul x", "line 2", `"modul"`},
		{"\n\ncommand", "line 3", "missing"},
		{"command a b", "line 1", `"b"`},
		{"link /a", "line 1", "missing"},
		{"dir /a 9", "line 1", `"9"`},
		{"dir /a 4755", "line 1", `"4755"`},
		{"module? x", "line 1", `"module?"`},
		{"module kernel/[", "line 1", `"kernel/["`},
		{"program /sbin/mke2fs", "line 1", `"/sbin/mke2fs"`},
		{"program lvm -o", "line 1", `"-o"`},
		{"program lvm lvm2 x", "line 1", `"x"`},
		{"library lib/x.so", "line 1", `"lib/x.so"`},
		{"file etc/x", "line 1", `"etc/x"`},
		{"names etc/x", "line 1", `"etc/x"`},
		{"names /x Y", "line 1", `"Y"`},
	} {
		_, err := ParseRecipe("stage9.recipe", strings.NewReader(tc.text))
		if err == nil {
			t.Errorf("%q: accepted", tc.text)
			continue
		}
		for _, want := range []string{"stage9.recipe", tc.line, tc.word} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %q lacks %q", tc.text, err, want)
			}
		}
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add("dir /tmp 1777\nlink /a b # c")
	f.Add("program? x\nfile /y\nmodule a*/...")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecipe("fuzz", strings.NewReader(text))
		if (r == nil) == (err == nil) {
			t.Errorf("recipe %v, error %v", r, err)
		}
	})
}

func TestTree(t *testing.T) {
	tree := NewTree()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	refused := func(err error, words ...string) {
		t.Helper()
		if err == nil {
			t.Errorf("accepted, want an error with %q", words)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q lacks %q", err, w)
			}
		}
	}
	ok(tree.AddData("/a/b/c", []byte("x"), 0o600))
	ok(tree.AddDir("a/b", 0o700))
	ok(tree.AddLink("d", "a/b/c"))
	ok(tree.AddLink("a/e", "/d"))
	ok(tree.AddLink("a/f", "../proc/self/mounts"))
	ok(tree.Check())
	refused(tree.AddData("a/b/c", nil, 0o600), "a/b/c", "already")
	refused(tree.AddData("a/b/c/d", nil, 0o600), "a/b/c", "no folder")
	refused(tree.AddDir("a/b/c", 0o755), "a/b/c")
	refused(tree.AddData("../x", nil, 0o600), `"../x"`)
	refused(tree.AddData("a/../../x", nil, 0o600), `"a/../../x"`)
	refused(tree.AddData("/", nil, 0o600), `"/"`)
	if m := tree.Get("/a/b").Mode; m != fs.ModeDir|0o700 {
		t.Errorf("a/b has mode %v", m)
	}
	ok(tree.AddLink("init", "bbin/init"))
	refused(tree.Check(), "/init", "/bbin/init")

	names := ""
	for _, e := range tree.Sorted() {
		names += e.Name + " "
	}
	if names != "a a/b a/b/c a/e a/f d init " {
		t.Errorf("sorted: %s", names)
	}
}
