package fixup

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/pkg/xattr"
)

const labelName = "security.selinux"

// fixLabels gives the files that were made here the label that SELinux would
// have given them: their folder's. Where golden's own files have none, or more
// are without than were made here, the clone labels itself at its first start
// (/.autorelabel, selinux(8)): that takes minutes and a second start, but with
// wrong labels nobody can log in. It does so after hooks too: what they wrote
// nobody knows, and a kernel without SELinux gave it no label.
func fixLabels(_ context.Context, c *clone, rep *StepReport) error {
	if !c.selinux() {
		rep.Skipped = "no SELinux"
		return nil
	}
	if c.tree.isFile("/.autorelabel") {
		rep.Skipped = "the golden node wants all files labelled at the next start"
		return nil
	}
	without := c.labelTouched(rep)
	if first := c.firstUnlabelled(); first != "" {
		without = first
	}
	switch {
	case without != "":
		rep.touch("/.autorelabel", "SELinux is on and "+without+" has no label")
	case len(c.env.Plan.Hooks) > 0:
		rep.touch("/.autorelabel", "SELinux is on and what the hooks wrote may have no label")
	default:
		return nil
	}
	return c.tree.write("/.autorelabel", nil, 0o644)
}

// selinux says whether the clone's kernel will look at labels.
func (c *clone) selinux() bool {
	b, err := c.tree.read("/etc/selinux/config")
	if err != nil {
		return false
	}
	on := false
	for line := range strings.SplitSeq(string(b), "\n") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "SELINUX="); ok {
			v = strings.ToLower(strings.TrimSpace(v))
			on = v == "enforcing" || v == "permissive"
		}
	}
	return on
}

// labelTouched labels what the steps wrote; it returns the first that it could
// not.
func (c *clone) labelTouched(rep *StepReport) (without string) {
	for _, s := range c.report.Steps {
		for _, f := range s.Files {
			if !strings.HasPrefix(f.Path, "/") || strings.HasPrefix(f.Path, "/dev/") || !c.tree.isFile(f.Path) && !c.tree.isDir(f.Path) {
				continue
			}
			err := c.tree.inheritLabel(f.Path)
			if errors.Is(err, syscall.ENOTSUP) { // the EFI system partition
				continue
			}
			if err != nil && without == "" {
				without = f.Path
				rep.warn("label %s: %v", f.Path, err)
			}
		}
	}
	return without
}

// firstUnlabelled is the first of /etc's files without a label.
func (c *clone) firstUnlabelled() string {
	for _, e := range c.tree.list("/etc") {
		name := path.Join("/etc", e.Name())
		if !e.Type().IsRegular() && !e.IsDir() {
			continue
		}
		if _, err := c.tree.label(name); err != nil && !errors.Is(err, syscall.ENOTSUP) {
			return name
		}
	}
	return ""
}

// errUnlabelled says that a file has no label.
var errUnlabelled = errors.New("no label")

// label is a file's or folder's label of SELinux.
func (t *tree) label(name string) ([]byte, error) {
	p, err := t.resolve(name, true)
	if err != nil {
		return nil, err
	}
	f, err := t.root.OpenFile(p, syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := xattr.FGet(f, labelName)
	if errors.Is(err, xattr.ENOATTR) {
		return nil, errUnlabelled
	}
	return b, err
}

// inheritLabel gives an unlabelled file its folder's label.
func (t *tree) inheritLabel(name string) error {
	if _, err := t.label(name); err == nil || !errors.Is(err, errUnlabelled) {
		return err
	}
	p, err := t.resolve(name, true)
	if err != nil {
		return err
	}
	dir, err := t.label("/" + path.Dir(p))
	if err != nil {
		return err
	}
	fi, err := t.root.Lstat(p)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() && !fi.IsDir() {
		return &fs.PathError{Op: "label", Path: name, Err: syscall.EINVAL}
	}
	f, err := t.root.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return xattr.FSet(f, labelName, dir)
}
