package fixup

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// hooksDir is where they are while they run: in the chroot's own /run, so that
// none stays on the clone.
const hooksDir = "/run/kamethod-post.d"

// runHooks runs the administrator's programs, in the clone and in the order
// golden sent them. All else is done by then, but the boot loader isn't
// written: a machine whose hook fails doesn't boot.
func runHooks(ctx context.Context, c *clone, rep *StepReport) error {
	hooks := c.env.Plan.Hooks
	if len(hooks) == 0 {
		rep.Skipped = "golden has none in post.d"
		return nil
	}
	if len(hooks) > wire.MaxHooks {
		return fmt.Errorf("%d hooks: at most %d", len(hooks), wire.MaxHooks)
	}
	for _, h := range hooks {
		if err := c.checkHook(h); err != nil {
			return fmt.Errorf("hook %q: %w", h.Name, err)
		}
	}
	if err := c.chroot.open(); err != nil {
		return err
	}
	if err := c.tree.mkdir(hooksDir); err != nil {
		return err
	}
	for _, h := range hooks {
		file := hooksDir + "/" + h.Name
		if err := c.tree.write(file, h.Content, 0o700); err != nil {
			return fmt.Errorf("hook %s: %w", h.Name, err)
		}
		if err := c.chroot.exec(ctx, h.Name, c.hookWords(), file); err != nil {
			return fmt.Errorf("hook %s: %w", h.Name, err)
		}
		rep.touch("post.d/"+h.Name, "hook was run; what it changes is its own")
	}
	return nil
}

// hookWords are what a hook is told of the machine that it runs for.
func (c *clone) hookWords() []string {
	return []string{
		"KAMETHOD_NODE=" + strconv.Itoa(c.env.Number),
		"KAMETHOD_HOSTNAME=" + c.host,
		"KAMETHOD_MAC=" + c.env.MAC,
		"KAMETHOD_ROOT=/",
	}
}

// checkHook says what the kernel would only call "no such file or directory".
func (c *clone) checkHook(h wire.Hook) error {
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`).MatchString(h.Name) { // run-parts(8)
		return fmt.Errorf("its name has other characters than letters, digits, _ and -")
	}
	if len(h.Content) == 0 || len(h.Content) > wire.MaxHook {
		return fmt.Errorf("%d bytes: want 1 to %d", len(h.Content), wire.MaxHook)
	}
	script, ok := bytes.CutPrefix(h.Content, []byte("#!"))
	if !ok {
		return nil // a program; or exec says that its format is unknown
	}
	line, _, _ := bytes.Cut(script, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return fmt.Errorf("its first line has no interpreter")
	}
	fi, err := c.tree.stat(words[0])
	if err != nil || !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
		return fmt.Errorf("the clone has no interpreter %s for it", words[0])
	}
	return nil
}
