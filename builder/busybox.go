package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/bb/findpkg"
	"github.com/u-root/gobusybox/src/pkg/golang"
	"golang.org/x/mod/modfile"
)

// busybox compiles many Go commands into one static binary.
type busybox struct {
	source  string // folder of the module
	scratch string // made here, empty
	tags    []string
}

// build gives the binary's path and the names of its commands.
//
// gobusybox only generates the source: its own compile step rebuilds all
// packages each time (-a), and gives no place for the debug line below.
func (b *busybox) build(ctx context.Context, patterns []string) (bin string, names []string, err error) {
	mod, err := readGoMod(filepath.Join(b.source, "go.mod"))
	if err != nil {
		return "", nil, err
	}
	cmds, err := b.expand(mod.path, patterns)
	if err != nil {
		return "", nil, err
	}
	goroot, err := b.goroot(ctx)
	if err != nil {
		return "", nil, err
	}
	gen := filepath.Join(b.scratch, "gen")
	env := golang.Default(golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH("amd64"),
		golang.WithGOROOT(goroot), golang.WithWorkingDir(b.source), golang.WithBuildTag(b.tags...))
	env.GO111MODULE = "on"
	skipped := &skipLog{}
	err = bb.BuildBusybox(skipped, &bb.Opts{
		Env: env, GenSrcDir: gen, GenerateOnly: true, GoBuildOpts: &golang.BuildOpts{},
		LookupEnv:    &findpkg.Env{}, // not what GBB_PATH or UROOT_SOURCE of the caller say
		CommandPaths: cmds,
	})
	if err != nil {
		return "", nil, fmt.Errorf("generate busybox: %w", err)
	}
	if len(skipped.lines) > 0 {
		return "", nil, fmt.Errorf("generate busybox: %s", strings.Join(skipped.lines, "; "))
	}
	main := filepath.Join(gen, "src/bb.u-root.com/bb/main.go")
	if err := setGoDebug(main, mod.language); err != nil {
		return "", nil, err
	}
	bin = filepath.Join(b.scratch, "bb")
	if err := b.compile(ctx, goroot, gen, filepath.Dir(main), bin); err != nil {
		return "", nil, err
	}
	for _, c := range cmds {
		names = append(names, path.Base(c))
	}
	slices.Sort(names)
	return bin, names, nil
}

func (b *busybox) compile(ctx context.Context, goroot, gen, dir, bin string) error {
	c := exec.CommandContext(ctx, filepath.Join(goroot, "bin/go"), "build",
		"-trimpath", "-buildvcs=false", "-tags="+strings.Join(b.tags, ","), "-ldflags=-s -w -buildid=", "-o", bin, ".")
	c.Dir = dir
	// Everything that decides over the bytes is set here; the caller's
	// environment has no say in it.
	c.Env = append(withoutEnv(os.Environ(), "GOFLAGS", "GOEXPERIMENT", "GODEBUG"),
		"GO111MODULE=off", "GOPATH="+gen, "GOROOT="+goroot, "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=",
		"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("compile busybox: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// goroot asks the source module's toolchain where it lives: a builder that
// was itself built with -trimpath doesn't know.
func (b *busybox) goroot(ctx context.Context) (string, error) {
	c := exec.CommandContext(ctx, "go", "env", "-json", "GOROOT")
	c.Dir = b.source
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("ask go for GOROOT: %w", err)
	}
	var v struct{ GOROOT string }
	if err := json.Unmarshal(out, &v); err != nil || v.GOROOT == "" {
		return "", fmt.Errorf("ask go for GOROOT: answer %q", out)
	}
	return v.GOROOT, nil
}

// expand turns "./cmds/x/*" into import paths; import paths stay.
func (b *busybox) expand(module string, patterns []string) ([]string, error) {
	var cmds []string
	for _, p := range patterns {
		rel, ok := strings.CutPrefix(p, "./")
		if !ok {
			cmds = append(cmds, p)
			continue
		}
		dirs, err := filepath.Glob(filepath.Join(b.source, rel))
		if err != nil {
			return nil, fmt.Errorf("command %s: %w", p, err)
		}
		found := false
		for _, d := range dirs {
			if files, _ := filepath.Glob(filepath.Join(d, "*.go")); len(files) == 0 {
				continue
			}
			r, err := filepath.Rel(b.source, d)
			if err != nil {
				return nil, err
			}
			found = true
			cmds = append(cmds, path.Join(module, filepath.ToSlash(r)))
		}
		if !found {
			return nil, fmt.Errorf("command %s: no Go source there (below %s)", p, b.source)
		}
	}
	slices.Sort(cmds)
	return slices.Compact(cmds), nil
}

type goMod struct{ path, language string }

func readGoMod(file string) (goMod, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return goMod{}, fmt.Errorf("source folder has no go.mod: %w", err)
	}
	f, err := modfile.ParseLax(file, data, nil)
	if err != nil {
		return goMod{}, err
	}
	if f.Module == nil || f.Go == nil {
		return goMod{}, fmt.Errorf("%s: no module or go line", file)
	}
	v := strings.SplitN(f.Go.Version, ".", 3)
	if len(v) < 2 {
		return goMod{}, fmt.Errorf("%s: go version %q", file, f.Go.Version)
	}
	return goMod{f.Module.Mod.Path, "go" + v[0] + "." + v[1]}, nil
}

// setGoDebug gives the generated main the defaults of the module's Go. Without
// a go.mod (the compile step has none) the toolchain would take those of Go
// 1.20: an old HTTP mux, weak TLS.
func setGoDebug(main, language string) error {
	src, err := os.ReadFile(main)
	if err != nil {
		return fmt.Errorf("read generated main: %w", err)
	}
	src = append([]byte("//go:debug default="+language+"\n\n"), src...)
	return os.WriteFile(main, src, 0o644)
}

// skipLog keeps what gobusybox only logs: that it leaves a package out. An
// image without a command that its recipe names is an error here.
type skipLog struct{ lines []string }

func (l *skipLog) Printf(format string, args ...any) {
	if strings.HasPrefix(format, "Skipping") {
		l.lines = append(l.lines, fmt.Sprintf(format, args...))
	}
}
