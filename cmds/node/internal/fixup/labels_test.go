package fixup

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
	"github.com/pkg/xattr"
)

// TestLabels: what the steps made gets its folder's label, and what golden's
// files lack is for the clone to find out.
func TestLabels(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("labels are root's to set")
	}
	const on, etc, boot = "SELINUX=enforcing\n", "system_u:object_r:etc_t:s0", "system_u:object_r:boot_t:s0"
	hook := []wire.Hook{{Name: "x", Content: []byte("#!/bin/sh\n")}}
	for _, tt := range []struct {
		name, config string
		unlabelled   string // one more that has none
		relabel      bool
		made         string // label of what was made
		hooks        []wire.Hook
	}{
		{"enforcing", "# SELINUX= can be\n" + on, "", false, etc, nil},
		{"permissive", "SELINUX=permissive\n", "", false, etc, nil},
		{"disabled", "SELINUX=disabled\n", "etc/shadow", false, "", nil},
		{"none", "", "etc/shadow", false, "", nil},
		{"hooks", on, "", true, etc, hook},
		{"hooks, disabled", "SELINUX=disabled\n", "", false, "", hook},
		{"golden's file without", on, "etc/shadow", true, etc, nil},
		{"golden's folder without", on, "etc/ssh", true, etc, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			files := map[string]string{"etc/fstab": "", "etc/shadow": "", "etc/ssh/x": "", "etc/made": "", "boot/made": "", "etc/link -> nowhere": ""}
			if tt.config != "" {
				files["etc/selinux/config"] = tt.config
			}
			c := newTestClone(t, root, files, func(e *Env) { e.Plan.Hooks = tt.hooks })
			for _, name := range []string{"etc", "etc/fstab", "etc/shadow", "etc/ssh", "etc/ssh/x", "etc/selinux", "boot"} {
				label := etc
				if name == "boot" {
					label = boot
				}
				err := xattr.Set(filepath.Join(root, name), labelName, []byte(label))
				if errors.Is(err, syscall.ENOTSUP) {
					t.Skip("this file system has no labels")
				}
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if tt.unlabelled != "" {
				if err := xattr.Remove(filepath.Join(root, tt.unlabelled), labelName); err != nil {
					t.Fatal(err)
				}
			}
			c.report.Steps = []StepReport{{Files: []Touched{{Path: "/etc/made"}, {Path: "/boot/made"}, {Path: "/dev/vda"}, {Path: "/etc/removed"}, {Path: "NVRAM Boot0001"}}}}
			for range 2 {
				if err := fixLabels(t.Context(), c, &StepReport{}); err != nil {
					t.Fatal(err)
				}
				if got := c.tree.isFile("/.autorelabel"); got != tt.relabel {
					t.Errorf("labels itself at its first start: %v, want %v", got, tt.relabel)
				}
			}
			label, _ := xattr.Get(filepath.Join(root, "etc/made"), labelName)
			if string(label) != tt.made {
				t.Errorf("what was made in /etc has label %q, want %q", label, tt.made)
			}
			if label, _ := xattr.Get(filepath.Join(root, "boot/made"), labelName); tt.made != "" && string(label) != boot {
				t.Errorf("what was made in /boot has label %q", label)
			}
		})
	}
}
