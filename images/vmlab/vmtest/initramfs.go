package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
	"github.com/u-root/u-root/pkg/ldd"
)

// needed are the modules that the way to the test's root takes, as the kernel
// names their files. What they need comes first.
var needed = []string{"loop", "squashfs", "overlay"}

// build compiles the test and packs the initramfs. It also tells where the
// repository is.
func (m Machine) build(ctx context.Context, dir string) (initrd, top string, err error) {
	mod, err := output(ctx, "go", "env", "GOMOD")
	if err != nil {
		return "", "", err
	}
	top = filepath.Dir(strings.TrimSpace(mod))
	rescue := filepath.Join(top, "images/rescue.sqfs")
	if _, err := os.Stat(rescue); err != nil {
		return "", "", fmt.Errorf("%w: make image makes it", err)
	}
	test, first := filepath.Join(dir, "test"), filepath.Join(dir, "vminit")
	args := []string{"-test.v", "-test.count=1", "-test.run", m.Run, "-test.timeout", m.Timeout.String()}
	if len(m.Program) > 0 {
		test, args = m.Program[0], m.Program[1:]
	} else if err := compile(ctx, "test", "-c", "-o", test, m.Package); err != nil {
		return "", "", err
	}
	if err := compile(ctx, "build", "-o", first, "github.com/kamethod/kamethod/images/vmlab/vmtest/vminit"); err != nil {
		return "", "", err
	}
	initrd = filepath.Join(dir, "initrd")
	f, err := os.Create(initrd)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	a := &archive{w: cpio.NewWriter(f), there: map[string]bool{}}
	order, err := json.Marshal(map[string]any{
		"args": args, "env": append(slices.Clone(m.Env), inside+"=1"), "disks": len(m.Disks),
	})
	if err != nil {
		return "", "", err
	}
	a.data("order.json", 0o644, order)
	a.file("init", first)
	a.file("rescue.sqfs", rescue)
	a.file("over/work/test", test)
	a.modules(ctx, rescue, dir)
	if len(m.Program) == 0 {
		a.testdata(ctx, m.Package)
	}
	a.programs(m.Programs)
	for _, name := range m.Files {
		from, to, other := strings.Cut(name, "=")
		if !other {
			to = from
		}
		a.file("over"+to, from)
	}
	return initrd, top, errors.Join(a.err, a.w.Close(), f.Close())
}

// compile runs the Go tool for a program without libraries.
func compile(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

func output(ctx context.Context, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

// archive is the initramfs on its way to the disk; it keeps the first error.
type archive struct {
	w     *cpio.Writer
	there map[string]bool
	err   error
}

func (a *archive) data(name string, mode cpio.FileMode, b []byte) {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); a.err != nil || a.there[name] {
		return
	}
	a.there[name] = true
	if dir := path.Dir(name); dir != "." && !a.there[dir] {
		a.data(dir, cpio.TypeDir|0o755, nil)
	}
	if mode&cpio.ModeType == 0 {
		mode |= cpio.TypeReg
	}
	a.err = a.w.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(b))})
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
}

func (a *archive) file(name, from string) {
	if a.err != nil {
		return
	}
	b, err := os.ReadFile(from)
	if err != nil {
		a.err = err
		return
	}
	a.data(name, 0o755, b)
}

// modules puts the needed ones into /modules, in the order to load them.
func (a *archive) modules(ctx context.Context, rescue, dir string) {
	if a.err != nil {
		return
	}
	to := filepath.Join(dir, "modules")
	if _, a.err = output(ctx, "unsquashfs", "-n", "-q", "-d", to, rescue, "lib/modules"); a.err != nil {
		return
	}
	deps, err := filepath.Glob(filepath.Join(to, "lib/modules/*/modules.dep"))
	if err != nil || len(deps) != 1 {
		a.err = fmt.Errorf("%d files modules.dep in %s (%w)", len(deps), rescue, err)
		return
	}
	b, err := os.ReadFile(deps[0])
	if err != nil {
		a.err = err
		return
	}
	n := 0
	for _, want := range needed {
		for _, file := range closure(string(b), want) {
			a.file(fmt.Sprintf("modules/%02d-%s", n, path.Base(file)), filepath.Join(filepath.Dir(deps[0]), file))
			n++
		}
	}
	if n < len(needed) {
		a.err = fmt.Errorf("%s has not all of the modules %v", rescue, needed)
	}
}

// closure is a module's file after those that it needs, from modules.dep
// (modules.dep(5): the ones to load first stand last).
func closure(dep, name string) []string {
	for line := range strings.SplitSeq(dep, "\n") {
		file, rest, _ := strings.Cut(line, ":")
		if path.Base(file) != name+".ko" {
			continue
		}
		all := strings.Fields(rest)
		slices.Reverse(all)
		return append(all, file)
	}
	return nil
}

// testdata is what a test finds beside it.
func (a *archive) testdata(ctx context.Context, pkg string) {
	if a.err != nil {
		return
	}
	dir, err := output(ctx, "go", "list", "-f", "{{.Dir}}", pkg)
	if err != nil {
		a.err = err
		return
	}
	dir = strings.TrimSpace(dir)
	err = filepath.WalkDir(filepath.Join(dir, "testdata"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		a.file("over/work/"+rel, name)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.err = errors.Join(a.err, err)
	}
}

// programs puts programs into /usr/sbin, and their libraries where their
// loader looks for them.
func (a *archive) programs(names []string) {
	var files []string
	for _, n := range names {
		file, err := find(n)
		if err != nil {
			a.err = errors.Join(a.err, err)
			return
		}
		a.file("over/usr/sbin/"+n, file)
		files = append(files, file)
	}
	if len(files) == 0 || a.err != nil {
		return
	}
	libs, err := ldd.List(files...)
	if err != nil {
		a.err = err
		return
	}
	for _, l := range libs {
		a.file("over"+l, l)
	}
}

// find looks where an administrator's programs are, too.
func find(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		file := filepath.Join(dir, name)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", fmt.Errorf("no program %s on this machine", name)
}
