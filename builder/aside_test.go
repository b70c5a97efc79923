package builder

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnpackAll takes a program out of a package that isn't installed, with
// the libraries that aren't either, and runs it with nothing else.
func TestUnpackAll(t *testing.T) {
	name := ""
	for _, n := range []string{"efibootmgr", "nilfs-tools", "exfatprogs"} { // small ones, that few machines have
		if name == "" && !installed(t.Context(), n) {
			name = n
		}
	}
	if name == "" {
		t.Skip("all of the packages are installed")
	}
	r := &run{Config: Config{Cache: t.TempDir()}}
	if _, err := apt(t.Context(), t.TempDir(), "apt-get", "-q", "download", name); err != nil {
		t.Skipf("apt can't fetch packages here: %v", err)
	}
	roots, err := r.unpackAll(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	program := map[string]string{"efibootmgr": "efibootmgr", "nilfs-tools": "mkfs.nilfs2", "exfatprogs": "mkfs.exfat"}[name]
	file, again, err := r.program(t.Context(), HostFile{Name: program, Package: name})
	if err != nil || !strings.HasPrefix(file, roots[0]+"/") || len(again) != len(roots) {
		t.Fatalf("%s, %v: %v", file, again, err)
	}
	libs, err := libraries(t.Context(), []string{file}, roots)
	if err != nil {
		t.Fatal(err)
	}
	image := t.TempDir()
	for _, l := range append(libs, library{"/program", file}) {
		to := filepath.Join(image, l.name)
		if strings.Contains(l.name, image) || os.MkdirAll(filepath.Dir(to), 0o755) != nil {
			t.Fatalf("library %s", l.name)
		}
		if err := copyFile(l.file, to); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(to, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	if out, err := exec.Command("chroot", image, "/program", "--version").CombinedOutput(); err != nil && !strings.Contains(strings.ToLower(string(out)), "version") && !strings.Contains(string(out), "mkfs") {
		t.Errorf("%s: %v: %s", program, err, out)
	}
}

// TestOpened finds a library beside those that programs are linked with.
func TestOpened(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "libdl.so"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	libs := []library{{"/lib/libc.so", filepath.Join(dir, "libc.so")}}
	got, err := opened(libs, []HostFile{{Name: "libdl.so"}, {Name: "libdl.so"}, {Name: "libno.so", Optional: true}})
	if err != nil || len(got) != 2 || got[1].name != "/lib/libdl.so" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := opened(libs, []HostFile{{Name: "libno.so", Line: 7}}); err == nil || !strings.Contains(err.Error(), "line 7") {
		t.Errorf("got %v", err)
	}
}

// TestProgramNowhere: what neither the machine nor apt has is warned of, or an
// error where the image can't do without.
func TestProgramNowhere(t *testing.T) {
	r := &run{Config: Config{Cache: t.TempDir()}}
	p := HostFile{Name: "kamethod-no-such-program", Package: "kamethod-has-no-such-package", Optional: true, Line: 3}
	img := ImageConfig{Name: "rescue.sqfs", Recipe: &Recipe{Programs: []HostFile{p}}}
	entry := ImageEntry{}
	if err := r.addPrograms(t.Context(), NewTree(), img, &entry); err != nil || len(entry.Programs) > 0 {
		t.Errorf("%v, %v", entry.Programs, err)
	}
	if w := r.manifest.Warnings; len(w) != 1 || !strings.HasPrefix(w[0], "rescue.sqfs: no kamethod-no-such-program, and what needs it can't be cloned: kamethod-has-no-such-package isn't installed") {
		t.Errorf("warnings %q", w)
	}
	img.Recipe.Programs[0].Optional = false
	if err := r.addPrograms(t.Context(), NewTree(), img, &entry); err == nil || !strings.HasPrefix(err.Error(), "recipe line 3: ") {
		t.Errorf("got %v", err)
	}
}
