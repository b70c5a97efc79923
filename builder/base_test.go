package builder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s isn't installed; scripts/setup.sh installs it", name)
	}
	c := exec.Command(name, args...)
	c.Dir = dir
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, errs.Bytes())
	}
	return string(out)
}

// rescueTree is a small rescue system as distributions lay it out today, with
// everything that a file system can hold.
func rescueTree(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make device nodes")
	}
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"usr/bin", "usr/sbin", "usr/lib", "dev", "etc", "var/run", "home/user"} {
		must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for name, text := range map[string]string{
		"usr/bin/busybox": "#!/bin/sh\n", "usr/bin/su": "root's", "usr/bin/mount": "the base's", "usr/bin/sh": "the base's shell",
		"init": "the base's init", "etc/motd": "welcome\n", "var/run/old.pid": "1\n", "home/user/notes": "x", "etc/empty": "",
		"usr/bin/name with blank": "ä",
		"usr/lib/libx.so.1.2":     "the same", "usr/lib/liby.so.1.2": "the base's",
	} {
		must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	for link, to := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "usr/bin/ash": "busybox", "usr/lib/libx.so.1": "libx.so.1.2", "usr/lib/liby.so.1": "liby.so.1.2", "etc/mtab": "/proc/mounts", "etc/gone": "/no/such"} {
		must(os.Symlink(to, filepath.Join(dir, link)))
	}
	must(os.Link(filepath.Join(dir, "usr/bin/busybox"), filepath.Join(dir, "usr/bin/cat")))
	must(os.Chmod(filepath.Join(dir, "usr/bin/su"), 0o755|fs.ModeSetuid))
	must(os.Chown(filepath.Join(dir, "home/user"), 1000, 1001))
	must(os.Chown(filepath.Join(dir, "home/user/notes"), 1000, 1001))
	must(unix.Mknod(filepath.Join(dir, "dev/console"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))))
	must(unix.Mknod(filepath.Join(dir, "dev/sda1"), unix.S_IFBLK|0o660, int(unix.Mkdev(8, 1))))
	must(os.Chmod(filepath.Join(dir, "dev/sda1"), 0o660)) // whatever the umask is
	must(unix.Mkfifo(filepath.Join(dir, "dev/initctl"), 0o600))
	return dir
}

// forBase is what a run needs to read a base.
func forBase(t *testing.T) *run { return &run{scratch: t.TempDir()} }

// listed is a tree as text, one entry a line.
func listed(t *testing.T, tree *Tree) string {
	t.Helper()
	var b strings.Builder
	for _, e := range tree.Sorted() {
		body, err := e.Content()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %v %d:%d %d,%d %q %q\n", e.Name, e.Mode, e.UID, e.GID, e.Major, e.Minor, e.Target, body)
	}
	return b.String()
}

// TestReadBase packs one tree in every form and reads the same back.
func TestReadBase(t *testing.T) {
	dir := rescueTree(t)
	want, origin, err := forBase(t).readBase(t.Context(), dir)
	if err != nil || origin != "folder" {
		t.Fatalf("%q, %v", origin, err)
	}
	text := listed(t, want)
	for _, line := range []string{
		"usr/bin/su urwxr-xr-x 0:0", "dev/console Dcrw------- 0:0 5,1", "dev/sda1 Drw-rw---- 0:0 8,1", "dev/initctl prw-------",
		`bin Lrwxrwxrwx 0:0 0,0 "usr/bin"`, `home/user/notes -rwxr-xr-x 1000:1001 0,0 "" "x"`, "usr/bin/cat -rwxr-xr-x 0:0 0,0 \"\" \"#!/bin/sh\\n\"",
	} {
		if !strings.Contains(text, line) {
			t.Fatalf("folder lacks %q:\n%s", line, text)
		}
	}
	for _, tt := range []struct {
		file, origin string
		make         func(t *testing.T, file string)
	}{
		{"x.sqfs", "squashfs", func(t *testing.T, file string) {
			command(t, dir, "mksquashfs", ".", file, "-quiet", "-no-progress")
		}},
		{"x.tar", "tar", func(t *testing.T, file string) { command(t, dir, "tar", "-cf", file, ".") }},
		{"x.cpio", "cpio", func(t *testing.T, file string) { command(t, dir, "bsdtar", "--format=newc", "-cf", file, ".") }},
		{"x.cpio.gz", "gzip with cpio", func(t *testing.T, file string) {
			command(t, dir, "bsdtar", "--format=newc", "-czf", file, ".")
		}},
		{"x.cpio.zst", "zstd with cpio", func(t *testing.T, file string) {
			command(t, dir, "bsdtar", "--format=newc", "--zstd", "-cf", file, ".")
		}},
		{"x.cpio.xz", "xz with cpio", func(t *testing.T, file string) {
			command(t, dir, "bsdtar", "--format=newc", "-cJf", file, ".")
		}},
		{"x.iso", "ISO 9660", func(t *testing.T, file string) { command(t, dir, "genisoimage", "-quiet", "-R", "-o", file, ".") }},
		{"rescue.clp", "cloop with ISO 9660", func(t *testing.T, file string) {
			command(t, dir, "genisoimage", "-quiet", "-R", "-o", file+".iso", ".")
			command(t, dir, "create_compressed_fs", "-q", file+".iso", file)
		}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), tt.file)
			tt.make(t, file)
			got, origin, err := forBase(t).readBase(t.Context(), file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(origin, tt.origin+", sha256 ") {
				t.Errorf("origin %q", origin)
			}
			if d := cmp.Diff(strings.Split(text, "\n"), strings.Split(listed(t, got), "\n")); d != "" {
				t.Errorf("folder -, %s +:\n%s", tt.file, d)
			}
		})
	}
	// GNU's own cpio, too: it puts the content with the last of several names.
	t.Run("GNU cpio", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "x")
		command(t, dir, "cpio", "--version")
		c := exec.Command("cpio", "-o", "-0", "--quiet", "-H", "newc", "-F", file)
		c.Dir, c.Stdin = dir, strings.NewReader(strings.ReplaceAll(command(t, dir, "find", ".", "-print0"), "\n", ""))
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got, _, err := forBase(t).readBase(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(text, listed(t, got)); d != "" {
			t.Error(d)
		}
	})
}

func newc(name string, mode, nlink int, body string) string {
	pad := func(s string) string { return s + strings.Repeat("\x00", (4-len(s)%4)%4) }
	h := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", 1, mode, 0, 0, nlink, 0, len(body), 0, 0, 0, 0, len(name)+1, 0)
	return pad(h+name+"\x00") + pad(body)
}

func tarOf(t *testing.T, headers ...*tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReadBaseRefuses has what is hostile, cut off or of a form that isn't taken.
func TestReadBaseRefuses(t *testing.T) {
	trailer := newc("TRAILER!!!", 0, 1, "")
	gz := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write([]byte(s))
		w.Close()
		return b.String()
	}
	cloop := func(block, blocks uint32, index ...uint64) string {
		b := append([]byte("#!/bin/sh\n#V2.0 Format\n"), make([]byte, 105)...)
		b = binary.BigEndian.AppendUint32(b, block)
		b = binary.BigEndian.AppendUint32(b, blocks)
		for _, i := range index {
			b = binary.BigEndian.AppendUint64(b, i)
		}
		return string(append(b, make([]byte, 64)...))
	}
	ext := make([]byte, 4096)
	ext[1080], ext[1081] = 0x53, 0xef
	for _, tt := range []struct{ name, text, want string }{
		{"climbs", newc("../etc/passwd", 0o100644, 1, "x") + trailer, `"../etc/passwd": climbs out`},
		{"climbs inside", newc("a/../../b", 0o100644, 1, "x") + trailer, `"a/../../b": climbs out`},
		{"through a link", newc("a", 0o120777, 1, "/etc") + newc("a/passwd", 0o100644, 1, "x") + trailer, "a is no folder"},
		{"link over a folder", newc("a/b", 0o100644, 1, "x") + newc("a", 0o120777, 1, "/etc") + trailer, `"a": is a folder before`},
		{"second archive", newc("a", 0o100644, 1, "x") + trailer + newc("b", 0o100644, 1, "x") + trailer, "a second archive or other data follow at byte 240"},
		{"cut off in a header", newc("a", 0o100644, 1, "x")[:50], "header at byte 0"},
		{"cut off", newc("a", 0o100644, 1, "x"), "header at byte 116"},
		{"body too long", strings.Replace(newc("a", 0o100644, 1, "x"), fmt.Sprintf("%08X", 1), "00000001", 1)[:54] + "FFFFFFFF" + newc("a", 0o100644, 1, "x")[62:], "4294967295 bytes"},
		{"name too long", newc(strings.Repeat("a", 5000), 0o100644, 1, "x"), "name of 5001 bytes"},
		{"no digits", "070701xxxxxxxx" + newc("a", 0o100644, 1, "x")[14:], `word "xxxxxxxx"`},
		{"empty", newc("x", 0o140644, 1, "") + trailer, "nothing is in it"},
		{"old cpio", "070707", "pack it with cpio -H newc"},
		{"gzip cut off", gz(newc("a", 0o100644, 1, strings.Repeat("xyz", 1000)))[:40], "unexpected EOF"},
		{"packed on and on", gz(gz(gz(gz(gz("x"))))), "more than 4 times"},
		{"html", "<html>not found</html>", "neither a folder nor"},
		{"nothing", "", "neither a folder nor"},
		{"ext4", string(ext), "mount it with -o loop,ro"},
		{"cloop 4", "#!/bin/sh\n#V4.0 Format\n", "extract_compressed_fs"},
		{"cloop block", cloop(1<<30, 1, 152, 160), "blocks of 1073741824 bytes"},
		{"cloop index", cloop(65536, 1<<30), "index of 1073741824 blocks"},
		{"cloop backwards", cloop(65536, 1, 200, 160), "block 0: lies from byte 200 to 160"},
		{"cloop no zlib", cloop(65536, 1, 152, 160), "block 0: zlib"},
		{"squashfs", "hsqs" + strings.Repeat("\x00", 200), "sqfs2tar"},
		{"tar climbs", tarOf(t, &tar.Header{Name: "a/../../b", Typeflag: tar.TypeDir, Mode: 0o755}), "climbs out"},
		{"tar link to nothing", tarOf(t, &tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}), `second name of "/etc/passwd"`},
		{"tar of what", tarOf(t, &tar.Header{Name: "a", Typeflag: 'V'}), "kind 'V' is unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "base")
			if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, _, err := forBase(t).readBase(t.Context(), file)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
	if _, _, err := forBase(t).readBase(t.Context(), "/no/such"); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("no such file: %v", err)
	}
}

// fuzzed reads what a fuzzer made up, as one form.
func fuzzed(t *testing.T, data []byte, read func(b *base, file string) error) *Tree {
	dir := t.TempDir()
	file := filepath.Join(dir, "in")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	b := &base{ctx: t.Context(), tree: NewTree(), scratch: dir}
	_ = read(b, file)
	for name := range b.tree.entries {
		if name == "" || filepath.IsAbs(name) || strings.Contains("/"+name+"/", "/../") {
			t.Errorf("name %q", name)
		}
	}
	return b.tree
}

func FuzzCPIO(f *testing.F) {
	f.Add([]byte(newc("a", 0o100644, 2, "x") + newc("a/../b", 0o40755, 1, "") + newc("TRAILER!!!", 0, 1, "")))
	f.Add([]byte(newc("l", 0o120777, 1, "../../x") + newc("TRAILER!!!", 0, 1, "")))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, data, (*base).cpio) })
}

func FuzzCloop(f *testing.F) {
	f.Add(append([]byte("#!/bin/sh\n#V2.0 Format\n"), make([]byte, 200)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzed(t, data, func(b *base, file string) error { _, err := b.cloop(file); return err })
	})
}

func FuzzTarBase(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0}, 1024))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, data, (*base).tar) })
}
