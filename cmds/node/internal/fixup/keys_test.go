package fixup

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// TestKeyFiles: golden's key file stays where it opens the clone's container,
// which the real cryptsetup says.
func TestKeyFiles(t *testing.T) {
	if _, err := exec.LookPath("cryptsetup"); err != nil {
		t.Skip("no cryptsetup here: package cryptsetup-bin")
	}
	text := "# c /dev/sda2 /etc/key luks\nc\tUUID=" + luksNow + "  /etc/key\tluks,initramfs\n"
	root := hostRoot(t, map[string]string{"etc/crypttab": text, "etc/key": "golden's"})
	img := filepath.Join(t.TempDir(), "luks")
	if err := os.WriteFile(img, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(stdin, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return strings.TrimSpace(string(out))
	}
	run("pass", "cryptsetup", "luksFormat", "--batch-mode", "--type=luks1", "--pbkdf-force-iterations=1000", "--uuid="+luksNow, "--key-file=-", img)
	loop := run("", "losetup", "-f", "--show", img)
	t.Cleanup(func() { run("", "losetup", "-d", loop) })
	c := newTestClone(t, root, nil, func(e *Env) {
		e.Plan = wire.Plan{Disks: []wire.DiskPlan{{Name: "sda", Layout: layout.Disk{Table: layout.None}}}, Stack: layout.Stack{Crypts: []layout.Crypt{{Name: "c", Device: "sda", OldUUID: luksWas}}}}
		e.Disks = wire.DiskResult{Disks: []string{loop}, Stack: []wire.StackResult{{Name: "mapper/c", Device: loop, UUID: luksNow}}}
		e.Log = slog.New(slog.DiscardHandler)
	})
	for _, tt := range []struct{ key, want string }{
		{"pass", text},
		{"golden's", strings.Replace(text, "UUID="+luksNow+"  /etc/key", "UUID="+luksNow+"  none", 1)},
	} {
		if err := os.WriteFile(filepath.Join(root, "etc/key"), []byte(tt.key), 0o600); err != nil {
			t.Fatal(err)
		}
		var rep StepReport
		if err := c.dropKeys(t.Context(), &rep); err != nil {
			t.Fatal(err)
		}
		got, _ := c.tree.read("/etc/crypttab")
		if d := cmp.Diff(tt.want, string(got)); d != "" || (len(rep.Warnings) > 0) != (tt.want != text) {
			t.Errorf("key %q: %q (-want +got)\n%s", tt.key, rep.Warnings, d)
		}
	}
}

// TestOtherKeys: only a key file's place is taken.
func TestOtherKeys(t *testing.T) {
	for line, want := range map[string]string{
		"crypt UUID=" + luksNow + " /etc/none luks":               "crypt UUID=" + luksNow + " none luks",
		"crypt UUID=" + luksNow + " /etc/none luks,keyscript=/x":  "",
		"crypt UUID=" + luksNow + " none luks":                    "",
		"crypt UUID=" + luksNow + " - luks":                       "",
		"crypt UUID=" + luksNow:                                   "",
		"crypt UUID=" + luksWas + " /etc/none luks":               "",
		"swap PARTUUID=33333333-05 /dev/urandom swap":             "",
		"crypt /dev/disk/by-uuid/" + luksNow + "\t/etc/none\tx y": "crypt /dev/disk/by-uuid/" + luksNow + "\tnone\tx y",
	} {
		if want == "" {
			want = line
		}
		c := stackedClone(t)
		if got, err := c.withoutKey(t.Context(), &StepReport{}, line); err != nil || got != want {
			t.Errorf("%q became %q, %v", line, got, err)
		}
	}
}

// TestFreshSwap: what swaps under a random key is crypttab's alone, and no
// place to wake up from.
func TestFreshSwap(t *testing.T) {
	const crypttab, own = "cs /dev/disk/by-id/ata-GOLDEN-part5 /dev/urandom swap\n", "UUID=" + rootNow + " / ext4 x 0 1\nUUID=" + varNow + " /var ext3 x 0 2\n"
	for _, swap := range []string{"/dev/mapper/cs none swap sw 0 0\n", ""} {
		c := newTestClone(t, t.TempDir(), map[string]string{
			"etc/crypttab": crypttab, "etc/fstab": own + swap, "etc/initramfs-tools/initramfs.conf": "RESUME=UUID=" + swapWas + "\n",
		}, func(e *Env) { e.Disks.Filesystems[2].PartID = "33333333-05" })
		for range 2 {
			for _, run := range []stepFunc{fixFstab, fixStorage} {
				if err := run(t.Context(), c, &StepReport{}); err != nil {
					t.Fatal(err)
				}
			}
			for name, want := range map[string]string{"/etc/fstab": own + swap, "/etc/crypttab": "cs PARTUUID=33333333-05 /dev/urandom swap\n"} {
				if got, _ := c.tree.read(name); string(got) != want {
					t.Errorf("%s (-want +got)\n%s", name, cmp.Diff(want, string(got)))
				}
			}
		}
		if s := c.vols.swaps(); len(s) > 0 {
			t.Errorf("%q: a place to wake up from: %+v", swap, s)
		}
	}
}

func TestFilters(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"one line": {"devices {\n\tfilter = [ \"a|/dev/sd[ab]2|\", \"r|.*|\" ] # x\n}\n", "devices {\n" + filtered + "\tfilter = [ \"a|/dev/sd[ab]2|\", \"r|.*|\" ] # x\n}\n"},
		"lines":    {"global_filter=[\n \"a|^/dev/disk/by-id/x]|\",\n \"r|.*|\"\n]\nx=1\n", filtered + "global_filter=[\n" + filtered + " \"a|^/dev/disk/by-id/x]|\",\n" + filtered + " \"r|.*|\"\n" + filtered + "]\nx=1\n"},
		"flat":     {"devices/filter=\"a|/dev/nvme0n1p3|\"", filtered + "devices/filter=\"a|/dev/nvme0n1p3|\""},
		"none":     {"# filter = [ \"a|/dev/sda|\" ]\nfilter = [ \"a|.*|\" ]\n", ""},
		"no disks": {"global_filter=[\"r|/dev/zd.*|\", \"r|/dev/rbd.*|\", \"a|/dev/md0|\"]\nuse_devicesfile=0 # /dev/sda\n", ""},
	} {
		if tt.want == "" {
			tt.want = tt.in
		}
		got, notes := rewriteFilters(tt.in)
		if d := cmp.Diff(tt.want, got); d != "" || (len(notes) > 0) != (tt.want != tt.in) {
			t.Errorf("%s: %q (-want +got)\n%s", name, notes, d)
		}
		if again, _ := rewriteFilters(got); again != got {
			t.Errorf("%s, the second time:\n%s", name, cmp.Diff(got, again))
		}
	}
	const more = "filter=[\"r|/dev/sda|\"] }\n"
	if got, notes := rewriteFilters(more); got != more || len(notes) != 1 {
		t.Errorf("with more behind it: %q, %q", got, notes)
	}
	c := stackedClone(t)
	plant(t, c.tree.path, map[string]string{"etc/lvm/lvm.conf": "filter=\"a|/dev/sda|\"\n"})
	var rep StepReport
	if err := c.fixFilters(&rep); err != nil || len(rep.Warnings) != 1 || len(rep.Files) != 1 {
		t.Errorf("%v, %+v", err, rep)
	}
}

func FuzzFilters(f *testing.F) {
	f.Add("# c\nfilter = [ \"a|/dev/sda|\",\n# d\n\"r|.*|\" ] x\nglobal_filter=\"/dev/vdb\"\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, _ := rewriteFilters(text)
		if again, _ := rewriteFilters(got); again != got {
			t.Fatalf("not the same the second time:\n%q\n%q", got, again)
		}
		if strings.ReplaceAll(got, filtered, "") != strings.ReplaceAll(text, filtered, "") {
			t.Fatalf("%q became %q", text, got)
		}
	})
}
