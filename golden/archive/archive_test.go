package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pipe runs a real program on bytes.
func pipe(t testing.TB, in []byte, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s (scripts/setup.sh installs it)", name)
	}
	c := exec.Command(name, args...)
	var out, said bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &out, &said
	if err := c.Run(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, &said)
	}
	return out.Bytes()
}

// samples are bytes of several natures, enough for codes of all lengths and
// for tables that are cleared.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 120_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var words []byte
	for len(words) < 400_000 {
		words = fmt.Appendf(words, "word%d ", r.IntN(5000))
	}
	return map[string][]byte{
		"nothing": {}, "one": {7}, "zeros": make([]byte, 300_000), "noise": noise,
		"words": words, "both": slices.Concat(words[:150_000], noise, make([]byte, 200_000), words[150_000:]),
	}
}

// What the real programs have packed is what it was.
func TestDecompress(t *testing.T) {
	for name, data := range samples() {
		packed := map[string][]byte{}
		for b := 10; b <= 16; b += 2 {
			packed[fmt.Sprintf("Z compress -b %d", b)] = pipe(t, data, "compress", "-c", "-f", "-b", fmt.Sprint(b))
		}
		packed["gz gzip"] = pipe(t, data, "gzip", "-c")
		packed["gz two members"] = append(pipe(t, data[:len(data)/2], "gzip", "-c"), pipe(t, data[len(data)/2:], "gzip", "-c")...)
		packed["zst zstd"] = pipe(t, data, "zstd", "-q", "-c")
		packed["xz xz"] = pipe(t, data, "xz", "-c")
		for how, b := range packed {
			form, _, _ := strings.Cut(how, " ")
			r, err := Decompress(bytes.NewReader(b), form)
			if err != nil {
				t.Errorf("%s of %s: %v", how, name, err)
				continue
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s of %s: %d of %d bytes, %v", how, name, len(got), len(data), err)
			}
			r.Close()
		}
	}
}

// Half a file, and one that is something else, is an error, but for half a .Z
// file, which has no mark at its end.
func TestDamaged(t *testing.T) {
	data := samples()["words"]
	for form, b := range map[string][]byte{
		Gzip: pipe(t, data, "gzip", "-c"), Zstd: pipe(t, data, "zstd", "-q", "-c"), XZ: pipe(t, data, "xz", "-c"), Compress: pipe(t, data, "compress", "-c"),
	} {
		for what, in := range map[string][]byte{"half": b[:len(b)/2], "else": data, "empty": nil} {
			r, err := Decompress(bytes.NewReader(in), form)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err == nil && (form != Compress || what != "half") && (form != Zstd || what != "empty") {
				t.Errorf("%s, %s: no error", form, what)
			}
		}
	}
}

func TestFormOf(t *testing.T) {
	for name, want := range map[string]string{
		"/dev/hda1": "", "/data/file.gz": "gz", "boot.tar.Z": "tar.Z", "a.tar": "tar", "a.tgz": "tar.gz", "x/a.tar.gz": "tar.gz",
		"a.cpio": "cpio", "a.cpio.gz": "cpio.gz", "a.cpio.Z": "cpio.Z", "a.zst": "zst", "a.tar.zst": "tar.zst", "a.cpio.xz": "cpio.xz", "a.xz": "xz",
		"a.Z": "Z", "a.z": "", "tar": "", "a.tar/b": "", "gz": "",
	} {
		if got := FormOf(name).String(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	good := []Entry{
		{Name: "./"}, {Name: "a/b"}, {Name: "a..b/..c"}, {Name: "x", Kind: Symlink, Link: "y"}, {Name: "a/x", Kind: Symlink, Link: "../y"},
		{Name: "a/x", Kind: Symlink, Link: "b/../../y"}, {Name: "x", Kind: Hardlink, Link: "./a/b"},
	}
	good[0].Kind = Dir
	for _, e := range good {
		if err := e.Check(false); err != nil {
			t.Error(err)
		}
	}
	for _, e := range []Entry{
		{Name: "../x"}, {Name: "a/../../x"}, {Name: ".."}, {Name: "/etc/passwd"},
		{Name: "x", Kind: Symlink, Link: "/etc"}, {Name: "x", Kind: Symlink, Link: ".."}, {Name: "x", Kind: Symlink, Link: "a/../../b"}, {Name: "a/x", Kind: Symlink, Link: "../../y"},
		{Name: "x", Kind: Hardlink, Link: "/etc/passwd"}, {Name: "x", Kind: Hardlink, Link: "../x"},
	} {
		if err := e.Check(false); !errors.Is(err, ErrLeaves) || !strings.Contains(err.Error(), `"`+e.Name+`"`) {
			t.Errorf("%+v: %v", e, err)
		}
		if err := e.Check(true); (err == nil) != (e.Kind == Symlink) {
			t.Errorf("%+v, far: %v", e, err)
		}
	}
	for _, e := range []Entry{{Name: ""}, {Name: "a\x00b"}, {Name: strings.Repeat("x/", 3000)}, {Name: "x", Kind: Symlink}, {Name: "."}, {Name: "x", Size: -1}} {
		if err := e.Check(true); err == nil {
			t.Errorf("%.40q is taken", e.Name)
		}
	}
}

// tree makes files of all kinds that an archive made without root can hold.
func tree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(dir+"/d/e", 0o755), os.WriteFile(dir+"/d/file", []byte("contents\n"), 0o640), os.WriteFile(dir+"/empty", nil, 0o600),
		os.WriteFile(dir+"/d/big", bytes.Repeat([]byte("x"), 100_001), 0o644), os.Link(dir+"/d/file", dir+"/d/again"), os.Link(dir+"/d/file", dir+"/zz"),
		os.Symlink("d/file", dir+"/link"), os.WriteFile(dir+"/"+strings.Repeat("n", 97), []byte("odd"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// packs are archives of a folder by the real programs, in all their forms.
func packs(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, f := range []string{"gnu", "pax", "ustar", "v7"} {
		out["tar "+f] = pipe(t, nil, "tar", "-C", dir, "--format="+f, "-cf", "-", ".")
	}
	var names []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		rel, rerr := filepath.Rel(dir, p)
		names = append(names, rel)
		return errors.Join(err, rerr)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"newc", "crc", "odc", "bin"} {
		out["cpio "+f] = pipe(t, []byte(strings.Join(names, "\n")+"\n"), "cpio", "--quiet", "-D", dir, "-o", "-H", f)
	}
	return out
}

func TestWalk(t *testing.T) {
	for how, b := range packs(t, tree(t)) {
		kind, _, _ := strings.Cut(how, " ")
		got := map[string]string{}
		err := Walk(bytes.NewReader(b), kind, func(e Entry, r io.Reader) error {
			data, err := io.ReadAll(r)
			at, perr := e.Path()
			if e.Kind == Hardlink {
				at, perr = Entry{Name: e.Link}.Path() // which of its names comes first is the program's choice
			}
			if len(data) > 0 || got[at] == "" {
				got[at] = fmt.Sprintf("%d %o %.10s %d", e.Kind, e.Mode, data, len(data))
			}
			return errors.Join(err, perr, e.Check(false))
		})
		if err != nil {
			t.Errorf("%s: %v", how, err)
		}
		first := ""
		for _, n := range []string{"zz", "d/file", "d/again"} {
			if v := got[n]; v != "" {
				first = v
			}
		}
		if !strings.HasSuffix(first, "640 contents\n 9") || got["d/big"] != "0 644 xxxxxxxxxx 100001" || got["empty"] != "0 600  0" ||
			!strings.HasPrefix(got["link"], "2 ") || got["d/e"] != "1 755  0" || got[strings.Repeat("n", 97)] != "0 644 odd 3" || len(got) != 8 {
			t.Errorf("%s: %q, %q", how, first, got)
		}
		if err := Walk(bytes.NewReader(b[:len(b)/3]), kind, func(_ Entry, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }); err == nil {
			t.Errorf("%s: a third of it is no error", how)
		}
	}
}

func FuzzLZW(f *testing.F) {
	f.Add(pipe(f, []byte("abcabcabcabc"), "compress", "-c", "-f"))
	f.Add([]byte{0x1f, 0x9d, 0x90, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{0x1f, 0x9d, 0x09, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, _ := io.Copy(io.Discard, newLZW(bytes.NewReader(b)))
		// A code has 9 bits at least, and means no more bytes than there are
		// entries.
		if limit := int64(len(b)) * 8 / 9 * (1 << lzwMaxBits); n > limit {
			t.Errorf("%d bytes of %d", n, len(b))
		}
	})
}

func FuzzWalk(f *testing.F) {
	for how, b := range packs(f, tree(f)) {
		kind, _, _ := strings.Cut(how, " ")
		f.Add(b[:min(len(b), 4096)], kind)
	}
	f.Fuzz(func(t *testing.T, b []byte, kind string) {
		Walk(bytes.NewReader(b), kind, func(e Entry, r io.Reader) error {
			if e.Check(false) == nil {
				if at, err := e.Path(); err != nil || filepath.IsAbs(at) || !filepath.IsLocal(at) {
					t.Errorf("%q: %q, %v", e.Name, at, err)
				}
			}
			n, err := io.Copy(io.Discard, r)
			if n > int64(len(b))*1024+1<<20 && kind != Tar { // a sparse tar may say what it likes
				t.Errorf("%d bytes of %d", n, len(b))
			}
			return err
		})
	})
}

// rawTar is an archive of entries without contents, as Go's writer makes none:
// a name, a type, and the size that its header has.
func rawTar(all ...[3]string) []byte {
	var b bytes.Buffer
	for _, e := range all {
		h := make([]byte, 512) // POSIX.1-1988 ustar, as pax(1) has it
		copy(h, e[0])
		copy(h[100:], "0000644\x000000000\x000000000\x00"+e[2]+"\x0000000000000\x00        "+e[1]+"first")
		copy(h[257:], "ustar  \x00")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		b.Write(h)
	}
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// What old and GNU tars write that Go's doesn't: a hard link with the size of
// its file, a label, a folder's list.
func TestOldTar(t *testing.T) {
	none := strings.Repeat("0", 11)
	b := rawTar([3]string{"label", "V", none}, [3]string{"first", "0", none}, [3]string{"dir/", "D", none}, [3]string{"again", "1", "00000000011"})
	var got []string
	err := Walk(bytes.NewReader(b), Tar, func(e Entry, _ io.Reader) error {
		got = append(got, fmt.Sprint(e.Name, " ", e.Kind, " ", e.Size))
		return e.Check(false)
	})
	want := []string{fmt.Sprint("first ", File, " 0"), fmt.Sprint("dir/ ", Dir, " 0"), fmt.Sprint("again ", Hardlink, " 0")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
