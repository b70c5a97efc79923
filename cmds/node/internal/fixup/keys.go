package fixup

import (
	"context"
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"
)

// dropKeys has the clone ask for the passphrase of each container that a key
// file of golden's doesn't open: a container made here has one key, and that is
// the deployment's passphrase. With a key file that doesn't fit Debian's initrd
// asks for nothing and finds no root.
func (c *clone) dropKeys(ctx context.Context, rep *StepReport) error {
	const name = "/etc/crypttab"
	text, err := c.tree.read(name)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	var b strings.Builder
	for s := range strings.SplitAfterSeq(string(text), "\n") {
		now, err := c.withoutKey(ctx, rep, s)
		if err != nil {
			return err
		}
		b.WriteString(now)
	}
	if b.String() == string(text) {
		return nil
	}
	rep.touch(name, "golden's key files don't open the clone's containers")
	return c.tree.write(name, []byte(b.String()), 0o644)
}

// withoutKey is a line of crypttab with "none" in its key file's place, if that
// doesn't open the container.
func (c *clone) withoutKey(ctx context.Context, rep *StepReport, line string) (string, error) {
	at := regexp.MustCompile(`[^ \t\r\n]+`).FindAllStringIndex(line, 4)
	if len(at) < 3 || line[at[0][0]] == '#' {
		return line, nil
	}
	var f [4]string // the options may be missing
	for i, p := range at {
		f[i] = line[p[0]:p[1]]
	}
	key := f[2]
	// What a keyscript is given is no file, or not one for cryptsetup.
	if !path.IsAbs(key) || strings.HasPrefix(key, "/dev/") || strings.Contains(f[3], "keyscript=") {
		return line, nil
	}
	device, made := c.container(f[1])
	if !made {
		return line, nil
	}
	if c.tree.isFile(key) {
		opens, err := c.opens(ctx, device, key, f[3])
		if err != nil || opens {
			return line, err
		}
	}
	rep.warn("crypttab: %s is not opened by %s, for it was made here: its passphrase is asked for", f[0], key)
	return line[:at[2][0]] + "none" + line[at[2][1]:], nil
}

// container is the node's device of a container that was made here, by how the
// clone's crypttab names it.
func (c *clone) container(source string) (device string, ok bool) {
	_, uuid := splitSpec(source)
	i := slices.IndexFunc(c.stk.crypts, func(k crypt) bool { return k.uuid != "" && strings.EqualFold(k.uuid, uuid) })
	if i < 0 {
		return "", false
	}
	return c.stk.node(c.stk.crypts[i].on)
}

// opens asks the clone's cryptsetup. One that isn't there opens nothing at the
// clone's start either, and its key is left alone.
func (c *clone) opens(ctx context.Context, device, key, options string) (bool, error) {
	if _, ok := c.tree.program("cryptsetup"); !ok {
		return false, nil
	}
	args := []string{"open", "--test-passphrase", "--batch-mode", "--key-file", key}
	for o := range strings.SplitSeq(options, ",") {
		if regexp.MustCompile(`^keyfile-(offset|size)=\d+$`).MatchString(o) { // crypttab(5)
			args = append(args, "--"+o)
		}
	}
	err := c.chroot.run(ctx, "cryptsetup", append(args, device)...)
	if ctx.Err() != nil {
		return false, err
	}
	return err == nil, nil
}
