package fixup

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

const (
	uuidA = "aaaaaaaa:11111111:22222222:33333333"
	uuidB = "bbbbbbbb:11111111:22222222:33333333"

	uuidNow = "cccccccc:11111111:22222222:33333333"
)

func TestLearnArrays(t *testing.T) {
	for _, tt := range []struct {
		name, conf, array, was, want string
	}{
		{"by device", "ARRAY /dev/md0 UUID=" + uuidA + "\nARRAY /dev/md1 UUID=" + uuidB + "\n", "md0", "", uuidA},
		{"by its other device", "ARRAY /dev/md/0 metadata=1.2 UUID=" + uuidA + " name=g:0", "md0", "", uuidA},
		{"by name", "# x\nARRAY /dev/md127 metadata=1.2 name=golden:0\n  UUID=" + uuidA + "\nMAILADDR root\n", "md0", "", uuidA},
		{"by a word as name", "array /dev/md127 name=golden:home uuid=" + uuidA + "\n", "md/home", "", uuidA},
		{"the device goes before the name", "ARRAY /dev/md7 UUID=" + uuidB + " name=g:0\nARRAY /dev/md0 UUID=" + uuidA + "\n", "md0", "", uuidA},
		{"two lines", "ARRAY /dev/md0 UUID=" + uuidA + "\nARRAY /dev/md/0 UUID=" + uuidB + "\n", "md0", "", ""},
		{"the clone's own", "ARRAY /dev/md0 UUID=" + uuidNow + "\n", "md0", "", ""},
		{"another's", "ARRAY /dev/md1 UUID=" + uuidA + " name=g:1\n", "md0", "", ""},
		{"in a comment", "#ARRAY /dev/md0 UUID=" + uuidA + "\n", "md0", "", ""},
		{"no UUID", "ARRAY /dev/md0 UUID=aaaaaaaa:1 level=raid1\n", "md0", "", ""},
		{"known already", "ARRAY /dev/md0 UUID=" + uuidA + "\n", "md0", uuidB, uuidB},
		{"a line goes on in nothing", " UUID=" + uuidA + "\nARRAY\n", "md0", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "etc/mdadm"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "etc/mdadm/mdadm.conf"), []byte(tt.conf), 0o644); err != nil {
				t.Fatal(err)
			}
			tree, err := openTree(root)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.close()
			plan := []layout.Array{{Name: tt.array, OldUUID: tt.was}}
			if got := learnArrays(tree, plan, []wire.StackResult{{Name: "md0", UUID: uuidNow}})[0].OldUUID; got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if plan[0].OldUUID != tt.was {
				t.Error("the plan was changed")
			}
		})
	}
}

func FuzzArrayLines(f *testing.F) {
	f.Add("ARRAY /dev/md0 UUID="+uuidA+" name=g:0\n  spares=1\n", "md0")
	f.Add("array\n \narray x\n", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		got := uuidOfArray(arrayLines(text), name, nil)
		if got != "" && !arrayUUID().MatchString(" uuid="+got) {
			t.Errorf("%q", got)
		}
	})
}

// TestArrayOfALayout: the plan of a layout that was written by hand has no UUID
// of golden's array, and yet none of golden's words stays.
func TestArrayOfALayout(t *testing.T) {
	root := t.TempDir()
	plant(t, root, map[string]string{
		"etc/mdadm/mdadm.conf": "HOMEHOST <system>\nARRAY /dev/md/0  metadata=1.2 UUID=" + uuidA + " name=golden:0\n",
		"etc/default/grub":     "GRUB_CMDLINE_LINUX=\"rd.md.uuid=" + uuidA + "\"\n",
	})
	for run := range 2 {
		c := newTestClone(t, root, nil, func(e *Env) {
			e.Plan.Stack.Arrays = []layout.Array{{Name: "md0", Members: []string{"sda2", "nvme0n1p3"}}}
			e.Disks.Stack = []wire.StackResult{{Name: "md0", Device: "/dev/md0", UUID: uuidNow}}
		})
		var rep StepReport
		for _, step := range []func(context.Context, *clone, *StepReport) error{fixStorage, fixUUIDs, findLeftovers} {
			if err := step(t.Context(), c, &rep); err != nil {
				t.Fatal(err)
			}
		}
		for name, want := range map[string]string{
			"etc/mdadm/mdadm.conf": "HOMEHOST <system>\nARRAY /dev/md/0  metadata=1.2 UUID=" + uuidNow + "\n",
			"etc/default/grub":     "GRUB_CMDLINE_LINUX=\"rd.md.uuid=" + uuidNow + "\"\n",
		} {
			if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(b) != want {
				t.Errorf("run %d: %s is %q, %v; want %q", run, name, b, err, want)
			}
		}
		if len(rep.Warnings)+len(c.report.Leftovers) > 0 {
			t.Errorf("run %d: %q, %q", run, rep.Warnings, c.report.Leftovers)
		}
	}
}
