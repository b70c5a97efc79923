package drivers

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, "lib/modules/1.0", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func smallTree(t *testing.T) *Index {
	t.Helper()
	root := t.TempDir()
	write(t, root, "modules.dep", `kernel/virtio-net.ko: kernel/net_failover.ko kernel/failover.ko
kernel/net_failover.ko: kernel/failover.ko
kernel/failover.ko:
kernel/fs/ext4.ko.xz: kernel/jbd2.ko
kernel/jbd2.ko:
kernel/crc32c-intel.ko:
kernel/floppy.ko:
`)
	write(t, root, "modules.alias", `# comment
alias virtio:d00000001v* virtio_net
alias acpi*:PNP0700:* floppy
alias dmi*:svnDell*:pn*/x* jbd2
alias crypto_crc32c crc32c_intel
alias usb:v0403p[0-9A-F]* failover
alias blank in it* failover
`)
	write(t, root, "modules.softdep", "softdep ext4 pre: crypto-crc32c post: floppy\nsoftdep jbd2 nothing\n")
	write(t, root, "modules.builtin", "kernel/drivers/tty-x.ko\n")
	write(t, root, "modules.builtin.modinfo", "tty_x.license=GPL\x00tty_x.alias=platform:tty-x\x00tty_x.alias=virtio:d00000001v*\x00")
	x, err := Open(root, "1.0")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestLookup(t *testing.T) {
	x := smallTree(t)
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"virtio-net", []string{"virtio_net"}},
		{"virtio_net", []string{"virtio_net"}},
		{"virtio:d00000001v00001AF4", []string{"virtio_net"}}, // the module, not the built-in that matches too
		{"virtio:d00000002v00001AF4", nil},
		{"acpi:PNP0700:", []string{"floppy"}}, // its pattern has a wildcard before the colon
		{"dmi:bvnX:svnDell Inc.:pnA/x", []string{"jbd2"}},
		{"crypto-crc32c", []string{"crc32c_intel"}},
		{"usb:v0403pF460", []string{"failover"}},
		{"usb:v0403pG460", nil},
		{"blank in it all", []string{"failover"}},
		{"platform:tty-x", []string{"tty_x"}},
		{"tty-x", []string{"tty_x"}},
		{"ext4", []string{"ext4"}},
		{"", nil},
	} {
		if d := cmp.Diff(tt.want, x.Lookup(tt.name)); d != "" {
			t.Errorf("Lookup(%q) -want +got:\n%s", tt.name, d)
		}
	}
	if d := cmp.Diff([]string{"failover", "net_failover", "virtio_net"}, x.withDeps("virtio_net", nil)); d != "" {
		t.Errorf("order -want +got:\n%s", d)
	}
	if x.pre["ext4"][0] != "crypto-crc32c" || x.post["ext4"][0] != "floppy" || len(x.pre["jbd2"]) != 0 {
		t.Errorf("softdeps %v %v", x.pre, x.post)
	}
}

func TestOpenWithoutTables(t *testing.T) {
	_, err := Open(t.TempDir(), "9.9")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "9.9") {
		t.Errorf("got %v", err)
	}
}

func TestDenyAndOptions(t *testing.T) {
	l := NewLoader(smallTree(t), "root=/dev/x.y quiet modprobe.blacklist=virtio-net,jbd2 e1000.debug=1 e1000.a=b")
	for _, name := range []string{"virtio:d00000001v0", "acpi:PNP0700:"} {
		got, err := l.LoadAlias(name)
		if len(got) != 0 || err != nil {
			t.Errorf("denied %s: %v, %v", name, got, err)
		}
	}
	if d := cmp.Diff(map[string][]string{"e1000": {"debug=1", "a=b"}}, l.opts); d != "" {
		t.Errorf("options -want +got:\n%s", d)
	}
	if _, err := l.Load("nosuch"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	// By name the deny list doesn't count: the load is tried, and the file isn't there.
	if _, err := l.Load("floppy"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a/b.c", true},
		{"a*b*c", "axxbyyc", true},
		{"a*b*c", "axxbyy", false},
		{"a?c", "a/c", true},
		{"a?c", "ac", false},
		{"[0-9a]x", "5x", true},
		{"[0-9a]x", "ax", true},
		{"[!0-9]x", "5x", false},
		{"[!0-9]x", "bx", true},
		{"[]]", "]", true},
		{"[^]]", "]", false},
		{"[a-", "[a-", true}, // never closed: itself
		{`\*`, "*", true},
		{`\*`, "a", false},
		{"*a*a*a*a*a*b", strings.Repeat("a", 4000), false},
	} {
		if got := match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("match(%q, %.20q) = %v", tt.pattern, tt.s, got)
		}
	}
}

// FuzzMatch compares with the obvious, exponential way to do it.
func FuzzMatch(f *testing.F) {
	f.Add("a*[0-9]?*", "ab7c")
	f.Add("[!a-c]*\\", "dx\\")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 12 || len(s) > 12 {
			t.Skip("too long for the slow way")
		}
		if got, want := match(pattern, s), slowMatch(pattern, s); got != want {
			t.Errorf("match(%q, %q) = %v, want %v", pattern, s, got, want)
		}
	})
}

func slowMatch(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] == '*' {
		return slowMatch(pattern[1:], s) || s != "" && slowMatch(pattern, s[1:])
	}
	if s == "" {
		return false
	}
	next, ok := one(pattern, 0, s[0])
	return ok && slowMatch(pattern[next:], s[1:])
}

// moduleTree is a root with a distribution's modules and depmod's tables.
func moduleTree(t *testing.T) (root, release string) {
	t.Helper()
	patterns := []string{"../../../../images/.cache/kernel/*/lib/modules/*", "/lib/modules/*"}
	if r := os.Getenv("KAMETHOD_MODULES"); r != "" {
		patterns = []string{filepath.Join(r, "lib/modules/*")}
	}
	for _, p := range patterns {
		dirs, _ := filepath.Glob(p)
		for _, d := range dirs {
			if _, err := os.Stat(filepath.Join(d, "modules.order")); err == nil {
				return withTables(t, d)
			}
		}
	}
	t.Skip("no kernel modules here: run make image first, or set KAMETHOD_MODULES to a root that has lib/modules")
	return "", ""
}

// withTables makes depmod's tables for dir without writing into it.
func withTables(t *testing.T, dir string) (root, release string) {
	t.Helper()
	for _, tool := range []string{"depmod", "modprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s isn't installed (package kmod); it is the judge here", tool)
		}
	}
	root, release = t.TempDir(), filepath.Base(dir)
	copied := filepath.Join(root, "lib/modules", release)
	if err := os.MkdirAll(copied, 0o755); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kernel", "modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if err := os.Symlink(filepath.Join(abs, name), filepath.Join(copied, name)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("depmod", "-b", root, release).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v\n%s", err, out)
	}
	return root, release
}

// TestLikeModprobe compares look-ups over a whole distribution's kernel with
// kmod's.
func TestLikeModprobe(t *testing.T) {
	root, release := moduleTree(t)
	x, err := Open(root, release)
	if err != nil {
		t.Fatal(err)
	}
	names := sample(x)
	found := 0
	for _, name := range names {
		out, err := exec.Command("modprobe", "-C", os.DevNull, "-d", root, "-S", release, "-R", name).Output()
		var want []string
		if err == nil {
			want = strings.Fields(string(out))
			found++
		}
		got := slices.Clone(x.Lookup(name))
		slices.Sort(want)
		slices.Sort(got)
		want, got = slices.Compact(want), slices.Compact(got)
		if !slices.Equal(want, got) {
			t.Errorf("%q: modprobe says %v, we say %v", name, want, got)
		}
	}
	t.Logf("%d names compared, modprobe knew %d", len(names), found)
	if found < len(names)/2 {
		t.Error("modprobe knew too few of them: the comparison is worth nothing")
	}
}

// sample takes one pattern in 60 with its wildcards filled in, some module
// names and some nonsense.
func sample(x *Index) []string {
	rnd := rand.New(rand.NewPCG(1, 2))
	var patterns []string
	for _, list := range x.aliases {
		for _, a := range list {
			patterns = append(patterns, a.pattern)
		}
	}
	slices.Sort(patterns)
	fill := strings.NewReplacer("*", "0000AB", "?", "7")
	var out []string
	for _, p := range patterns {
		if rnd.IntN(60) == 0 && !strings.Contains(p, "[") {
			out = append(out, fill.Replace(p))
		}
	}
	for name := range x.files {
		out = append(out, strings.ReplaceAll(name, "_", "-"))
		if len(out) > 900 {
			break
		}
	}
	return append(out,
		"pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00",
		"virtio:d00000001v00001AF4", "acpi:PNP0700:", "usb:v0BDAp8153d3100dc00dsc00dp00icFFiscFFip00in00", "crypto-crc32c",
		"fs-ext4", "nosuch", "pci:", "scsi:t-0x00", "cpu:type:x86,ven0000fam0006mod009E:feature:,0000,0001,00C0")
}
