package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// fromPackage takes the kernel out of a distribution's package. apt checks its
// signature; nothing is installed, so no boot loader of this machine is touched.
func (s KernelSource) fromPackage(ctx context.Context, name string) (*Kernel, error) {
	real, file, err := s.locateFresh(ctx, name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.cache, "kernel", strings.TrimSuffix(file, ".deb"))
	if _, err := os.Stat(dir); err != nil {
		s.say("fetching package %s", file)
		if err := s.fetch(ctx, real, file, dir); err != nil {
			return nil, err
		}
	}
	images, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if len(images) != 1 {
		return nil, fmt.Errorf("package %s: %d kernels in it, want one", file, len(images))
	}
	release, err := imageRelease(images[0])
	if err != nil {
		return nil, err
	}
	modules := filepath.Join(dir, "lib/modules", release)
	if hasModules(modules) != nil { // usr-merged packages
		modules = filepath.Join(dir, "usr/lib/modules", release)
	}
	if err := hasModules(modules); err != nil {
		return nil, &NoModulesError{images[0], modules, err}
	}
	return &Kernel{Release: release, Image: images[0], Modules: modules, Origin: "package " + file}, nil
}

// debName is a package's file name; it becomes a path here.
var debName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~_%-]*\.deb$`)

// locate finds the versioned package behind a metapackage, and its file name.
func (s KernelSource) locate(ctx context.Context, name string) (real, file string, err error) {
	out, err := apt(ctx, s.cache, "apt-cache", "depends", name)
	if err != nil {
		return "", "", err
	}
	real = name
	for line := range strings.Lines(string(out)) {
		if dep, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			real = "linux-image-" + dep
			break
		}
	}
	out, err = apt(ctx, s.cache, "apt-get", "download", "--print-uris", real)
	if err != nil {
		return "", "", err
	}
	// 'http://mirror/pool/….deb' linux-image-6.1.0-56-amd64_6.1.192-2_amd64.deb 70550672 SHA256:…
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 3 && debName.MatchString(f[1]) {
			return real, f[1], nil
		}
	}
	return "", "", fmt.Errorf("apt-get download --print-uris %s: no file named in %q", real, out)
}

// locateFresh has apt look once more with newer lists if it finds nothing:
// they may be missing (a fresh container), or too old.
func (s KernelSource) locateFresh(ctx context.Context, name string) (real, file string, err error) {
	if real, file, err = s.locate(ctx, name); err == nil {
		return real, file, nil
	}
	s.say("asking apt for newer package lists (%v)", err)
	if _, uerr := apt(ctx, s.cache, "apt-get", "-q", "update"); uerr != nil {
		return "", "", errors.Join(err, uerr)
	}
	return s.locate(ctx, name)
}

// fetch downloads and unpacks a package into dir, which appears complete or
// not at all.
func (s KernelSource) fetch(ctx context.Context, real, file, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if _, err := apt(ctx, tmp, "apt-get", "-q", "download", real); err != nil {
		return err
	}
	s.say("unpacking package %s", file)
	tree := filepath.Join(tmp, "tree")
	if _, err := apt(ctx, tmp, "dpkg-deb", "-x", filepath.Join(tmp, file), tree); err != nil {
		return err
	}
	err = os.Rename(tree, dir)
	if _, there := os.Stat(dir); there == nil {
		return nil // another run was faster
	}
	return err
}

// source finds the file that a TreeFile is made of, on this machine or in its
// package.
func (r *run) source(ctx context.Context, f TreeFile) (string, error) {
	_, err := os.Stat(f.From)
	if f.From == "" || err == nil {
		return f.From, nil
	}
	if f.Package == "" {
		return "", err
	}
	dir, err := r.unpack(ctx, f.Package)
	if err != nil {
		return "", err
	}
	from := filepath.Join(dir, f.From)
	_, err = os.Stat(from)
	return from, err
}

func apt(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "LC_ALL=C")
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out, nil
}
