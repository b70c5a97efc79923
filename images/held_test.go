package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

// administrator types golden-serve's verbs beside a session that runs.
type administrator struct {
	t   *testing.T
	lab *vmlab.Lab
}

// types says what the verb printed.
func (a administrator) types(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"netns", "exec", a.lab.Name, filepath.Join(a.lab.Dir, "golden-serve")}, args...)
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Env = append(os.Environ(), "KAMETHOD_STATE="+filepath.Join(a.lab.Dir, "state"))
	out, err := cmd.CombinedOutput()
	a.t.Logf("%v\n%s", args[4:], out)
	if err != nil {
		err = fmt.Errorf("%v: %w: %s", args[4:], err, out)
	}
	return string(out), err
}

// wants has a verb print lines that match.
func (a administrator) wants(ctx context.Context, patterns []string, args ...string) error {
	out, err := a.types(ctx, args...)
	if err != nil {
		return err
	}
	for _, p := range patterns {
		if !regexp.MustCompile(`(?m)` + p).MatchString(out) {
			return fmt.Errorf("%v: nothing matches %q in:\n%s", args, p, out)
		}
	}
	return nil
}

// TestHeldClones looks after two machines while they become clones, and when
// they are done and held: by exec, logs and release. `make vmtest CELL=exec`.
func TestHeldClones(t *testing.T) {
	if os.Getenv("VMTEST") == "" {
		t.Skip("make vmtest CELL=exec runs it: VMTEST=1")
	}
	looked := make(chan error, 1)
	result := playClone(t, rehearsal.Config{
		Kind: goldenroot.Cloud, Nodes: 2, Serve: []string{"--hold"},
		Lab: func(ctx context.Context, lab *vmlab.Lab) error {
			go func() { looked <- lookAfter(ctx, administrator{t, lab}) }()
			return nil
		},
	})
	if err := <-looked; err != nil {
		t.Error(err)
	}
	for i, n := range result.Nodes {
		if n.Serve.State != "released" {
			t.Errorf("node %d ended as %q", i+1, n.Serve.State)
		}
	}
}

func lookAfter(ctx context.Context, a administrator) error {
	log := filepath.Join(a.lab.Dir, "golden-serve.log")
	if err := waitForText(ctx, log, "phase: sending the golden node"); err != nil {
		return err
	}
	both := []string{`^node1: .*up .*load`, `^node2: .*up .*load`}
	if err := a.wants(ctx, both, "exec", "all", "--", "uptime"); err != nil {
		return err
	}
	if err := waitForText(ctx, log, "phase: nodes are held"); err != nil {
		return err
	}
	for _, step := range []struct {
		patterns []string
		args     []string
	}{
		{both, []string{"exec", "all", "--", "uptime"}},
		{[]string{`^node1: +1$`, `^node2: +1$`}, []string{"exec", "all", "--direct", "--", "sh", "-c", "grep kamethod /proc/cmdline | sort | wc -l"}},
		{[]string{`^node2: .* (sd|vd)[a-z]\d*$`}, []string{"exec", "node2", "--", "cat", "/proc/partitions"}},
		{[]string{`state: done`, `fix-up: boot-loader`}, []string{"logs", "node1"}},
	} {
		if err := a.wants(ctx, step.patterns, step.args...); err != nil {
			return err
		}
	}
	if out, err := a.types(ctx, "exec", "node7", "--", "uptime"); err == nil || !strings.Contains(out, "node7") {
		return fmt.Errorf("a command on a node that isn't there: %w: %s", err, out)
	}
	return a.wants(ctx, nil, "release", "all")
}
