package builder

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// packageName is what a Debian package can be called (Debian policy, 5.6.1).
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// maxPackages bounds how many packages are unpacked for one program.
const maxPackages = 32

// unpack is the folder where the package is unpacked, without being installed:
// the programs of some would change the machine that builds.
func (r *run) unpack(ctx context.Context, name string) (string, error) {
	s := KernelSource{cache: r.Cache, say: r.say}
	locate := s.locate
	if lists, _ := filepath.Glob("/var/lib/apt/lists/*_Packages*"); len(lists) == 0 {
		locate = s.locateFresh // a fresh container
	}
	real, file, err := locate(ctx, name)
	if err != nil {
		return "", fmt.Errorf("%s isn't installed, and apt doesn't find it: %w", name, err)
	}
	dir := filepath.Join(r.Cache, "package", strings.TrimSuffix(file, ".deb"))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	r.say("fetching package %s", file)
	if err := s.fetch(ctx, real, file, dir); err != nil {
		return "", fmt.Errorf("%s isn't installed: %w", name, err)
	}
	return dir, nil
}

// unpackAll unpacks the package, and those with the libraries that it needs
// and that this machine hasn't installed. The package's own folder comes first.
func (r *run) unpackAll(ctx context.Context, name string) ([]string, error) {
	names, dirs := []string{name}, []string{}
	for i := 0; i < len(names); i++ {
		if i == maxPackages {
			return nil, fmt.Errorf("package %s needs more than %d others: %v", name, maxPackages, names)
		}
		dir, err := r.unpack(ctx, names[i])
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
		out, err := apt(ctx, r.Cache, "apt-cache", "depends", names[i])
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(out)) {
			_, dep, ok := strings.Cut(strings.TrimSpace(line), "Depends: ")
			if ok && strings.HasPrefix(dep, "lib") && packageName.MatchString(dep) && !slices.Contains(names, dep) && !installed(ctx, dep) {
				names = append(names, dep)
			}
		}
	}
	return dirs, nil
}

// installed asks dpkg: a package that was removed may be known to it still.
func installed(ctx context.Context, name string) bool {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", name).Output()
	return err == nil && strings.HasPrefix(string(out), "installed")
}
