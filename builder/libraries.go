package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/ldd"
)

// library is a shared library: its name in the image, and the file here.
type library struct{ name, file string }

// libraries are what the programs are linked with, and their loader. What lies
// below one of the roots comes from an unpacked package, and its name in the
// image is the one below the root.
func libraries(ctx context.Context, programs, roots []string) ([]library, error) {
	dirs, err := libraryDirs(roots)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, p := range programs {
		loader, err := ldd.GetInterp(p)
		if err != nil {
			return nil, fmt.Errorf("loader of %s: %w", p, err)
		}
		if loader == "" {
			continue // a static program, or a script
		}
		found[loader] = loader
		files, err := linked(ctx, loader, p, dirs)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			found[inImage(f, roots)] = f
		}
	}
	var libs []library
	for name, file := range found {
		libs = append(libs, library{name, file})
	}
	slices.SortFunc(libs, func(a, b library) int { return strings.Compare(a.name, b.name) })
	return libs, nil
}

// linked has the program's loader list what it would load: lines such as
// "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)" (ld.so(8)).
func linked(ctx context.Context, loader, program string, dirs []string) ([]string, error) {
	c := exec.CommandContext(ctx, loader, "--list", program)
	c.Env = append(withoutEnv(os.Environ(), "LD_LIBRARY_PATH", "LD_PRELOAD"), "LC_ALL=C")
	if len(dirs) > 0 {
		c.Env = append(c.Env, "LD_LIBRARY_PATH="+strings.Join(dirs, ":"))
	}
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("list libraries of %s: %w: %s", program, err, bytes.TrimSpace(errs.Bytes()))
	}
	var files []string
	for line := range strings.Lines(string(out)) {
		name, to, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if !ok {
			continue // the loader itself, or what the kernel gives (vdso(7))
		}
		file, _, _ := strings.Cut(to, " (0x")
		if !filepath.IsAbs(file) {
			return nil, fmt.Errorf("library %s of %s: %s", name, program, to)
		}
		if file != loader {
			files = append(files, filepath.Clean(file))
		}
	}
	return files, nil
}

// libraryDirs are the folders with libraries in unpacked packages.
func libraryDirs(roots []string) ([]string, error) {
	var dirs []string
	for _, root := range roots {
		for _, top := range []string{"lib", "usr/lib"} {
			err := filepath.WalkDir(filepath.Join(root, top), func(path string, e fs.DirEntry, err error) error {
				if errors.Is(err, os.ErrNotExist) {
					return nil
				}
				if err == nil && !e.IsDir() && strings.Contains(e.Name(), ".so") && !slices.Contains(dirs, filepath.Dir(path)) {
					dirs = append(dirs, filepath.Dir(path))
				}
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("look for libraries: %w", err)
			}
		}
	}
	return dirs, nil
}

func inImage(file string, roots []string) string {
	for _, r := range roots {
		if rest, ok := strings.CutPrefix(file, r+"/"); ok {
			return "/" + rest
		}
	}
	return file
}
