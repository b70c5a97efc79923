package builder

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// bzImage is the setup header of a kernel of this release, and nothing else.
func bzImage(release string) []byte {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x300-0x200)
	copy(b[0x300:], release+" (builder@test) #1 SMP\x00")
	return b
}

func writeFile(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// realModule is a small module of the kernel package that the image tests,
// or `make image`, unpacked.
func realModule(t testing.TB) (object []byte, file string) {
	t.Helper()
	files, _ := filepath.Glob("../images/.cache/kernel/*/lib/modules/*/kernel/drivers/net/mii.ko")
	if len(files) == 0 {
		t.Skip("no kernel package unpacked yet: run the tests without -short, or make image")
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return b, files[0]
}

func quiet(string, ...any) {}

func TestKernelWithoutModules(t *testing.T) {
	root := t.TempDir()
	image := filepath.Join(root, "boot/vmlinuz-9.9.9-test")
	writeFile(t, image, bzImage("9.9.9-test"))
	elsewhere := filepath.Join(root, "elsewhere")

	for name, src := range map[string]KernelSource{
		"found": {Image: image, root: root},
		"named": {Image: image, Modules: elsewhere, root: root},
	} {
		t.Run(name, func(t *testing.T) {
			src.say = quiet
			_, err := src.find(t.Context())
			var nm *NoModulesError
			if !errors.As(err, &nm) {
				t.Fatalf("error %v, want a NoModulesError", err)
			}
			dir := filepath.Join(root, "lib/modules/9.9.9-test")
			if name == "named" {
				dir = elsewhere
			}
			for _, want := range []string{image, dir} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %s", err, want)
				}
			}
		})
	}
}

func TestKernelBesideItsModules(t *testing.T) {
	root := t.TempDir()
	image := filepath.Join(root, "boot/vmlinuz")
	dir := filepath.Join(root, "lib/modules/9.9.9-test")
	writeFile(t, image, bzImage("9.9.9-test"))
	writeFile(t, filepath.Join(dir, "kernel/x"), nil)
	k, err := KernelSource{Image: image, root: "/nowhere", say: quiet}.find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if k.Release != "9.9.9-test" || k.Modules != dir {
		t.Errorf("got %+v, want modules in %s", k, dir)
	}
}

func TestModulesWithoutKernel(t *testing.T) {
	_, err := KernelSource{Modules: "/lib/modules/x", say: quiet}.find(t.Context())
	if err == nil || !strings.Contains(err.Error(), "/lib/modules/x") || !strings.Contains(err.Error(), "--kernel") {
		t.Errorf("error %v", err)
	}
}

func TestRunningKernel(t *testing.T) {
	root := t.TempDir()
	src := KernelSource{root: root, release: "9.9.9-test", say: quiet}
	if k, err := src.running(); k != nil || err != nil {
		t.Errorf("nothing there: got %v, %v", k, err)
	}
	writeFile(t, filepath.Join(root, "boot/vmlinuz-9.9.9-test"), bzImage("9.9.9-test"))
	if k, err := src.running(); k != nil || err != nil {
		t.Errorf("image without modules: got %v, %v", k, err)
	}
	writeFile(t, filepath.Join(root, "lib/modules/9.9.9-test/kernel/x"), nil)
	if k, err := src.running(); err != nil || k == nil || k.Release != "9.9.9-test" {
		t.Errorf("both there: got %v, %v", k, err)
	}
}

// TestForeignModules: modules of another kernel are refused, by name.
func TestForeignModules(t *testing.T) {
	object, _ := realModule(t)
	root := t.TempDir()
	image, dir := filepath.Join(root, "vmlinuz"), filepath.Join(root, "modules")
	writeFile(t, image, bzImage("9.9.9-test"))
	writeFile(t, filepath.Join(dir, "kernel/mii.ko"), object)
	writeFile(t, filepath.Join(root, "go.mod"), []byte("module example.com/x\n\ngo 1.26\n"))
	_, err := Build(t.Context(), Config{
		Source: root, Out: filepath.Join(root, "out"), Kernel: KernelSource{Image: image, Modules: dir},
	})
	var nm *NoModulesError
	if !errors.As(err, &nm) {
		t.Fatalf("error %v, want a NoModulesError", err)
	}
	for _, want := range []string{image, dir, "9.9.9-test", "mii.ko"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}

func TestBzImageRelease(t *testing.T) {
	if r, err := bzImageRelease(bzImage("6.1.0-56-amd64")); r != "6.1.0-56-amd64" || err != nil {
		t.Errorf("got %q, %v", r, err)
	}
	zero := bzImage("x")
	binary.LittleEndian.PutUint16(zero[0x20e:], 0)
	far := bzImage("x")
	binary.LittleEndian.PutUint16(far[0x20e:], 0xffff)
	for name, head := range map[string][]byte{
		"empty": nil, "short": bzImage("x")[:0x20f], "ELF": []byte("\x7fELF" + strings.Repeat("x", 1000)),
		"no version": zero, "version outside": far,
		"path": bzImage("../../etc"), "dots": bzImage(".."), "nothing": bzImage(""),
	} {
		if r, err := bzImageRelease(head); !errors.Is(err, errNoBzImage) {
			t.Errorf("%s: got %q, %v", name, r, err)
		}
	}
}

func FuzzBzImageRelease(f *testing.F) {
	f.Add(bzImage("6.1.0-56-amd64"))
	f.Add(bzImage("../x"))
	f.Add([]byte("HdrS"))
	f.Fuzz(func(t *testing.T, head []byte) {
		r, err := bzImageRelease(head)
		if err == nil && (r == "" || strings.ContainsAny(r, "/\x00 ") || r == "..") {
			t.Errorf("took release %q", r)
		}
	})
}

func TestCompressedModules(t *testing.T) {
	object, _ := realModule(t)
	dir := t.TempDir()
	for suffix, open := range map[string]func(io.Writer) (io.WriteCloser, error){
		".ko":     func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil },
		".ko.gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".ko.xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		".ko.zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(object); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(dir, suffix)
		writeFile(t, filepath.Join(root, "kernel/net/mii"+suffix), b.Bytes())
		ms, err := ReadModules(root, "6.1")
		if err != nil {
			t.Errorf("%s: %v", suffix, err)
			continue
		}
		tree := NewTree()
		if err := ms.AddTo(tree, ms.All); err != nil {
			t.Fatal(err)
		}
		got, err := tree.Get("lib/modules/6.1/kernel/net/mii.ko").Content()
		if err != nil || !bytes.Equal(got, object) {
			t.Errorf("%s: %d bytes, %v; want the module as it was", suffix, len(got), err)
		}
		writeFile(t, filepath.Join(root, "kernel/net/mii"+suffix), b.Bytes()[:b.Len()/2])
		if _, err := ReadModules(root, "6.1"); err == nil || !strings.Contains(err.Error(), "mii"+suffix) {
			t.Errorf("%s cut in half: error %v", suffix, err)
		}
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func FuzzParseModinfo(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	if files, _ := filepath.Glob("../images/.cache/kernel/*/lib/modules/*/kernel/drivers/net/mii.ko"); len(files) > 0 {
		if b, err := os.ReadFile(files[0]); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		mi, err := parseModinfo(object)
		if err == nil && len(mi.depends)+len(mi.aliases) > len(object) {
			t.Errorf("more words than bytes")
		}
	})
}
