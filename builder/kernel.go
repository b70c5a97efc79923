package builder

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// KernelSource says where the kernel comes from. The zero value means: the
// running machine's if it has both halves, else the distribution's package.
type KernelSource struct {
	Image   string // kernel image; empty: found
	Modules string // its modules; empty: found, beside Image or in /lib/modules
	Package string // distribution's package; empty: linux-image-amd64

	root    string // of the machine; empty: /
	release string // of the machine; empty: uname's
	cache   string
	say     func(format string, args ...any)
}

// Kernel is a kernel image with the modules built for it.
type Kernel struct {
	Release string // 6.1.0-56-amd64
	Image   string
	Modules string // folder that holds kernel/ and modules.builtin
	Origin  string // for the manifest: no path of this machine
}

// NoModulesError says that a kernel stands without its modules.
type NoModulesError struct {
	Image, Modules string
	Err            error
}

func (e *NoModulesError) Error() string {
	return fmt.Sprintf("kernel %s without its modules: want them in %s (or name both with --kernel and --modules): %v",
		e.Image, e.Modules, e.Err)
}

func (e *NoModulesError) Unwrap() error { return e.Err }

func (s KernelSource) find(ctx context.Context) (*Kernel, error) {
	switch {
	case s.Image != "":
		return s.named()
	case s.Modules != "":
		return nil, fmt.Errorf("modules %s without a kernel: name its image with --kernel", s.Modules)
	case s.Package != "":
		return s.fromPackage(ctx, s.Package)
	}
	if k, err := s.running(); err != nil || k != nil {
		return k, err
	}
	return s.fromPackage(ctx, "linux-image-amd64")
}

// named is the kernel that the caller named.
func (s KernelSource) named() (*Kernel, error) {
	release, err := imageRelease(s.Image)
	if err != nil {
		return nil, err
	}
	dir := s.Modules
	if dir == "" {
		dir = filepath.Join(s.root, "/lib/modules", release)
		beside := filepath.Join(filepath.Dir(s.Image), "../lib/modules", release)
		if hasModules(beside) == nil {
			dir = beside
		}
	}
	if err := hasModules(dir); err != nil {
		return nil, &NoModulesError{s.Image, dir, err}
	}
	return &Kernel{Release: release, Image: s.Image, Modules: dir, Origin: "files named by the caller"}, nil
}

// running is the machine's own kernel, or nil where a half of it is missing:
// containers and micro-VMs run kernels that they haven't got.
func (s KernelSource) running() (*Kernel, error) {
	release := s.release
	if release == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return nil, fmt.Errorf("uname: %w", err)
		}
		release = unix.ByteSliceToString(u.Release[:])
	}
	image := filepath.Join(s.root, "/boot", "vmlinuz-"+release)
	dir := filepath.Join(s.root, "/lib/modules", release)
	_, imageErr := os.Stat(image)
	modErr := hasModules(dir)
	if imageErr != nil || modErr != nil {
		s.say("this machine runs %s, but has not both %s and %s", release, image, dir)
		return nil, nil
	}
	got, err := imageRelease(image)
	if err != nil {
		return nil, err
	}
	return &Kernel{Release: got, Image: image, Modules: dir, Origin: "the running machine"}, nil
}

func hasModules(dir string) error {
	fi, err := os.Stat(filepath.Join(dir, "kernel"))
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s: not a folder", filepath.Join(dir, "kernel"))
	}
	return nil
}

// agrees checks that the modules were built for this kernel: each carries
// the release in its vermagic, and the kernel refuses others at load time.
func (k *Kernel) agrees(ms *Modules) error {
	for _, m := range ms.All {
		built, _, _ := strings.Cut(m.info.vermagic, " ")
		if built != "" && built != k.Release {
			return &NoModulesError{k.Image, k.Modules,
				fmt.Errorf("the kernel is %s, but %s was built for %s", k.Release, m.Path, built)}
		}
	}
	return nil
}

// imageRelease asks a kernel image for its release.
func imageRelease(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("open kernel: %w", err)
	}
	defer f.Close()
	// The setup part, where the version stands, is at most 64 sectors and one.
	head, err := io.ReadAll(io.LimitReader(f, 65*512+128))
	if err != nil {
		return "", fmt.Errorf("read kernel %s: %w", file, err)
	}
	r, err := bzImageRelease(head)
	if err != nil {
		return "", fmt.Errorf("read kernel %s: %w", file, err)
	}
	return r, nil
}

var errNoBzImage = errors.New("not a Linux kernel image (bzImage)")

// releaseForm keeps a release from being anything but one name in a path.
var releaseForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+~-]*$`)

// bzImageRelease finds the release in the setup header of an x86 kernel
// (Documentation/arch/x86/boot.rst: "HdrS" at 0x202, kernel_version at 0x20e,
// a string at that offset plus 0x200).
func bzImageRelease(head []byte) (string, error) {
	if len(head) < 0x210 || string(head[0x202:0x206]) != "HdrS" {
		return "", errNoBzImage
	}
	off := int(binary.LittleEndian.Uint16(head[0x20e:])) + 0x200
	if off == 0x200 || off >= len(head) {
		return "", fmt.Errorf("%w: version string at %#x of %d bytes", errNoBzImage, off, len(head))
	}
	text := string(head[off:min(off+128, len(head))])
	text, _, _ = strings.Cut(text, "\x00")
	release, _, _ := strings.Cut(text, " ")
	if !releaseForm.MatchString(release) {
		return "", fmt.Errorf("%w: version string %q", errNoBzImage, text)
	}
	return release, nil
}
