package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// programDirs are searched in this order; sbin is not in everybody's PATH.
var programDirs = []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"}

// addPrograms puts programs of this machine, or of packages that are unpacked
// aside, into /sbin of an image, and the libraries they are linked with under
// the names that their loader looks for.
func (r *run) addPrograms(ctx context.Context, t *Tree, img ImageConfig, e *ImageEntry) error {
	var files []string
	var roots []string // of unpacked packages
	for _, p := range img.Recipe.Programs {
		file, more, err := r.program(ctx, p)
		if err != nil && p.Optional {
			if p.Package != "" {
				r.warn("%s: no %s, and what needs it can't be cloned: %v", img.Name, p.Name, err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("recipe line %d: %w", p.Line, err)
		}
		if err := t.AddPath("sbin/"+p.Name, file, 0o755); err != nil {
			return err
		}
		e.Programs, files = append(e.Programs, p.Name), append(files, file)
		roots = append(roots, more...)
	}
	slices.Sort(roots)
	libs, err := libraries(ctx, files, slices.Compact(roots))
	if err != nil {
		return err
	}
	if libs, err = opened(libs, img.Recipe.Libraries); err != nil {
		return err
	}
	for _, l := range libs {
		// By content, not as the symbolic link it usually is: the loader asks
		// for this name and no other.
		if err := t.AddPath(l.name, l.file, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// opened adds the libraries that no program is linked with: they lie where
// the others do.
func opened(libs []library, more []HostFile) ([]library, error) {
	for _, m := range more {
		i := slices.IndexFunc(libs, func(l library) bool {
			_, err := os.Stat(filepath.Join(filepath.Dir(l.file), m.Name))
			return err == nil
		})
		switch {
		case i >= 0:
			l := library{filepath.Join(filepath.Dir(libs[i].name), m.Name), filepath.Join(filepath.Dir(libs[i].file), m.Name)}
			if !slices.ContainsFunc(libs, func(o library) bool { return o.name == l.name }) {
				libs = append(libs, l)
			}
		case !m.Optional:
			return nil, fmt.Errorf("recipe line %d: find library %s beside %d others: %w", m.Line, m.Name, len(libs), os.ErrNotExist)
		}
	}
	return libs, nil
}

// program finds a program on this machine or in its package, and where
// packages are unpacked that it may have its libraries from.
func (r *run) program(ctx context.Context, p HostFile) (file string, roots []string, err error) {
	file, err = findProgram("/", p.Name)
	if !errors.Is(err, os.ErrNotExist) || p.Package == "" {
		return file, nil, err
	}
	if roots, err = r.unpackAll(ctx, p.Package); err != nil {
		return "", nil, err
	}
	file, err = findProgram(roots[0], p.Name)
	return file, roots, err
}

// findProgram finds an executable file below root. The links of an unpacked
// package lead into the package, not into this machine.
func findProgram(root, name string) (string, error) {
	for _, d := range programDirs {
		file := filepath.Join(root, d, name)
		if to, err := os.Readlink(file); err == nil && filepath.IsAbs(to) {
			file = filepath.Join(root, to)
		}
		fi, err := os.Stat(file)
		if err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("find program %s in %v: %w", name, programDirs, os.ErrNotExist)
}
