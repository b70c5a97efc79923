package fixup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/kamethod/kamethod/golden/mangle"
)

// fixSwapFiles gives the files that fstab swaps to a UUID of their own: of one
// in use golden's first page has come, in which the UUID is.
func fixSwapFiles(ctx context.Context, c *clone, rep *StepReport) error {
	text, err := c.tree.read("/etc/fstab")
	if err != nil && !errors.Is(err, errAbsent) {
		return err
	}
	done := map[string]bool{}
	for s := range strings.SplitSeq(string(text), "\n") {
		l, ok := parseFstabLine(s)
		name := mangle.Undo(l.spec)
		if !ok || !l.swap() || !strings.HasPrefix(name, "/") || strings.HasPrefix(name, "/dev/") || done[name] {
			continue
		}
		done[name] = true
		if err := c.newSwapFile(ctx, rep, name); err != nil {
			return err
		}
	}
	if len(rep.Files)+len(rep.Warnings) == 0 {
		rep.Skipped = "fstab has no swap file"
	}
	return nil
}

// newSwapFile has the clone's mkswap make one again. That it can't is no
// failure: two machines never swap to one file.
func (c *clone) newSwapFile(ctx context.Context, rep *StepReport, name string) error {
	fi, err := c.tree.stat(name)
	switch {
	case errors.Is(err, errAbsent):
		rep.warn("the swap file %s isn't on the clone", name)
		return nil
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		rep.warn("%s, which fstab swaps to, is no file", name)
		return nil
	}
	label, err := c.swapLabel(name)
	if err != nil {
		rep.warn("the swap file %s is left as it is: %v", name, err)
		return nil
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	args := []string{"-U", id.String()}
	if label != "" {
		args = append(args, "-L", label)
	}
	if _, ok := c.tree.program("mkswap"); !ok {
		rep.warn("the swap file %s has golden's UUID: the clone has no mkswap", name)
		return nil
	}
	if err := c.chroot.run(ctx, "mkswap", append(args, name)...); err != nil {
		if ctx.Err() != nil {
			return err
		}
		rep.warn("the swap file %s: %v", name, err)
		return nil
	}
	rep.touch(name, "swap file with a UUID of its own")
	return nil
}

// swapLabel is what a swap file is labelled, and an error if it is none. Its
// first page ends with a word that says so (swap_header in include/linux/swap.h).
func (c *clone) swapLabel(name string) (string, error) {
	const labelAt, labelSize = 1052, 16 // bytes: where sws_volume is
	f, err := c.tree.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	page := make([]byte, 64<<10) // of ARM and POWER; 4 KiB elsewhere
	n, err := io.ReadFull(f, page)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	for size := 4 << 10; size <= n; size <<= 1 {
		if !bytes.Equal(page[size-10:size], []byte("SWAPSPACE2")) {
			continue
		}
		label, _, _ := bytes.Cut(page[labelAt:labelAt+labelSize], []byte{0})
		if !regexp.MustCompile(`^[ -~]*$`).Match(label) {
			return "", nil
		}
		return string(label), nil
	}
	return "", errors.New("it isn't one")
}
