package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/u-root/u-root/pkg/ldd"
)

// programDirs are searched in this order; sbin is not in everybody's PATH.
var programDirs = []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"}

// AddPrograms puts programs of this machine into /sbin of an image, and the
// libraries they are linked with under the names that their loader looks for.
// It tells which programs it added.
func AddPrograms(ctx context.Context, t *Tree, programs []HostFile) ([]string, error) {
	var names, files []string
	for _, p := range programs {
		file, err := findProgram(p.Name)
		if errors.Is(err, os.ErrNotExist) && p.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("recipe line %d: %w", p.Line, err)
		}
		if err := t.AddPath("sbin/"+p.Name, file, 0o755); err != nil {
			return nil, err
		}
		names, files = append(names, p.Name), append(files, file)
	}
	libs, err := ldd.List(files...)
	if err != nil {
		return nil, fmt.Errorf("list libraries of %v: %w", names, err)
	}
	slices.Sort(libs) // List's order varies
	for _, l := range slices.Compact(libs) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// By content, not as the symbolic link it usually is: the loader asks
		// for this name and no other.
		if err := t.AddPath(l, l, 0o755); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func findProgram(name string) (string, error) {
	for _, d := range programDirs {
		file := filepath.Join(d, name)
		fi, err := os.Stat(file)
		if err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("find program %s in %v: %w", name, programDirs, os.ErrNotExist)
}
