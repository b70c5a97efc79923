package disk

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// run runs a program with arguments, never through a shell, and puts the last
// that it said into the error.
func run(ctx context.Context, stdin, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute) // mkfs of a large, slow disk
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = programEnv()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, brief(args), err, tail(said.String()))
	}
	return nil
}

// brief is a program's arguments for a message: LVM's settings are long.
func brief(args []string) string {
	var all []string
	for _, a := range args {
		if len(a) > 200 {
			a = a[:30] + "…"
		}
		all = append(all, a)
	}
	return strings.Join(all, " ")
}

// programEnv has programs speak English, and those of volumes do without a
// udev, which stage 2 hasn't: they make their nodes themselves (dm_udev(7),
// mdadm(8)).
func programEnv() []string {
	return append(os.Environ(), "LC_ALL=C", "DM_DISABLE_UDEV=1", "MDADM_NO_UDEV=1", "LVM_SUPPRESS_FD_WARNINGS=1")
}

// tail is the last lines of a program's output, in one line.
func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > 5 {
		lines = lines[len(lines)-5:]
	}
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " | ")
}
