package cook

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/archive"
	"github.com/kamethod/kamethod/golden/wire"
)

// tarOf makes an archive that no tar would.
func tarOf(t testing.TB, all ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range all {
		data := []byte("evil")
		if h.Typeflag != tar.TypeReg {
			data = nil
		}
		h.Size, h.Mode = int64(len(data)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newcOf makes a cpio archive of entries with a mode, a name, and contents.
func newcOf(all ...[3]string) []byte {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for i, e := range append(all, [3]string{"0", "TRAILER!!!", ""}) {
		ino := i + 1
		nlink := 1
		if strings.HasPrefix(e[0], "2:") { // a second name of the first
			e[0], ino = e[0][2:], 1
		}
		if len(all) > 1 && ino == 1 {
			nlink = 2
		}
		var mode int
		fmt.Sscanf(e[0], "%o", &mode)
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", ino, mode, 0, 0, nlink, 0, len(e[2]), 0, 0, 7, 99, len(e[1])+1, 0, e[1])
		pad()
		b.WriteString(e[2])
		pad()
	}
	return b.Bytes()
}

// Nothing gets out of the folder that an archive is for, whatever it says, and
// whatever is in the folder already.
func TestHostile(t *testing.T) {
	root(t)
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
	}
	reg, dir := "100644", "40755"
	for _, c := range []struct {
		name, kind string
		data       []byte
		far        bool
		want       string // of the error; empty: it may be unpacked, inside
	}{
		{"dots", "tar", tarOf(t, file("../victim")), false, "../victim"},
		{"dots in the middle", "tar", tarOf(t, file("a/../../victim")), false, "a/../../victim"},
		{"absolute", "tar", tarOf(t, file("/etc/victim")), false, "/etc/victim"},
		{"link out", "tar", tarOf(t, link("l", "../victim")), false, "leaves the folder"},
		{"link out, absolute", "tar", tarOf(t, link("l", "/etc/victim")), false, "leaves the folder"},
		{"through a link", "tar", tarOf(t, link("l", ".."), file("l/victim")), true, "l/victim"},
		{"through an absolute link", "tar", tarOf(t, link("l", "OUT"), file("l/victim")), true, "l/victim"},
		{"through two links", "tar", tarOf(t, link("a", "b"), link("b", "OUT"), file("a/victim")), true, "a/victim"},
		{"folder through a link", "tar", tarOf(t, link("l", "OUT"), tar.Header{Name: "l/sub/", Typeflag: tar.TypeDir}), true, "l/sub"},
		{"over a link", "tar", tarOf(t, link("l", "OUT/victim"), file("l")), true, ""},
		{"hard link out", "tar", tarOf(t, hard("h", "../victim"), file("h")), false, "../victim"},
		{"hard link through a link", "tar", tarOf(t, link("l", "OUT"), hard("h", "l/victim")), true, "l/victim"},
		{"hard link to a link", "tar", tarOf(t, link("l", "OUT/victim"), hard("h", "l"), file("h")), true, ""},
		{"link that was there", "tar", tarOf(t, file("old/victim")), true, "old/victim"},
		{"folder for a link that was there", "tar", tarOf(t, tar.Header{Name: "old", Typeflag: tar.TypeDir}, file("old/victim")), false, ""},
		{"device through a link", "tar", tarOf(t, link("l", "OUT"), tar.Header{Name: "l/victim2", Typeflag: tar.TypeBlock, Devmajor: 7, Devminor: 99}), true, "l/victim2"},
		{"over itself", "tar", tarOf(t, file(".")), false, "folder itself"},
		{"dots", "cpio", newcOf([3]string{reg, "../victim", "evil"}), false, "../victim"},
		{"absolute", "cpio", newcOf([3]string{reg, "/etc/victim", "evil"}), false, "/etc/victim"},
		{"link out", "cpio", newcOf([3]string{"120777", "l", "../victim"}), false, "leaves the folder"},
		{"contents into a device", "cpio", newcOf([3]string{reg, "first", ""}, [3]string{"60660", "first", ""}, [3]string{"2:100644", "second", "evil"}), false, "which is no file"},
		{"contents into a link", "cpio", newcOf([3]string{reg, "first", ""}, [3]string{"120777", "first", "OUT/victim"}, [3]string{"2:100644", "second", "evil"}), true, "which is no file"},
		{"not an archive", "cpio", []byte("<html>404</html>"), false, "no cpio archive"},
		{"not an archive", "tar", bytes.Repeat([]byte("<html>404</html>"), 64), false, "tar"},
		{"folder", "cpio", newcOf([3]string{dir, "d", ""}), false, ""},
	} {
		t.Run(c.kind+" "+c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "outside")
			in := filepath.Join(out, "in")
			victim := filepath.Join(out, "victim")
			if err := os.MkdirAll(in, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(victim, []byte("good"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(out, in+"/old"); err != nil {
				t.Fatal(err)
			}
			// The archives were made with a name as long as the folder's.
			data := retarget(t, c.data, c.kind, out)
			err := serve(t, Options{}, nil, source{wire.Copy{From: "x", To: in, Archive: c.kind, Bytes: 100, FarLinks: c.far}, data})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
			if b, err := os.ReadFile(victim); err != nil || string(b) != "good" {
				t.Errorf("the victim has %q, %v", b, err)
			}
			if list, _ := os.ReadDir(out); len(list) != 2 {
				t.Errorf("outside are %v", list)
			}
			if _, err := os.Lstat("/etc/victim"); err == nil {
				t.Error("/etc/victim is there")
				os.Remove("/etc/victim")
			}
		})
	}
}

// retarget writes a tar anew whose links lead to OUT, and a cpio likewise.
func retarget(t *testing.T, b []byte, kind, out string) []byte {
	t.Helper()
	if !bytes.Contains(b, []byte("OUT")) {
		return b
	}
	if kind == archive.CPIO {
		return newcOf([3]string{"100644", "first", ""}, [3]string{"120777", "first", out + "/victim"}, [3]string{"2:100644", "second", "evil"})
	}
	var all []tar.Header
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err != nil {
			break
		}
		all = append(all, tar.Header{Name: h.Name, Typeflag: h.Typeflag, Linkname: strings.Replace(h.Linkname, "OUT", out, 1), Devmajor: h.Devmajor, Devminor: h.Devminor})
	}
	return tarOf(t, all...)
}

// What golden didn't see in an archive isn't written.
func TestLimit(t *testing.T) {
	root(t)
	dir := t.TempDir()
	err := serve(t, Options{}, nil, source{wire.Copy{From: "x", To: dir, Archive: "tar", Bytes: 3}, tarOf(t, tar.Header{Name: "a", Typeflag: tar.TypeReg})})
	if err == nil || !strings.Contains(err.Error(), "more than golden saw") {
		t.Errorf("%v", err)
	}
}

// FuzzUnpack: nothing appears outside, whatever the archive.
func FuzzUnpack(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("needs root: owners and devices")
	}
	f.Add(tarOf(f, tar.Header{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}, tar.Header{Name: "l/x", Typeflag: tar.TypeReg}), true)
	f.Add(newcOf([3]string{"100644", "a", "b"}, [3]string{"2:100644", "c", "d"}), false)
	f.Fuzz(func(t *testing.T, b []byte, isTar bool) {
		out := t.TempDir()
		kind := map[bool]string{true: archive.Tar, false: archive.CPIO}[isTar]
		_ = unpack(bytes.NewReader(b), kind, out+"/in", true, 1<<20)
		list, err := os.ReadDir(out)
		if err != nil || len(list) > 1 {
			t.Errorf("outside are %v, %v", list, err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(out, &st); err != nil || st.Uid != 0 {
			t.Errorf("the folder above: %+v, %v", st, err)
		}
	})
}
