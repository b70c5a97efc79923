package rehearsal

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/vmlab"
	"github.com/kamethod/kamethod/images/vmlab/vmtest"
)

// TestJudgeInVM has TestInspect run in a machine.
func TestJudgeInVM(t *testing.T) {
	vmtest.Run(t, vmtest.Machine{
		Run: "^TestInspect$", Disks: []vmlab.Disk{{Size: 500 << 20}, {Size: 400 << 20}}, Memory: 768,
		Programs: append(slices.Clone(judgePrograms), "mkfs.jfs", "mkfs.reiserfs", "mkfs.f2fs", "mkswap"),
		Env:      []string{"DM_DISABLE_UDEV=1"},
	})
}

// TestInspect makes what a clone's disks may hold, by the programs that any
// administrator has, and has the judge look at it: at what is right, and at
// what isn't.
//
//	vda1 + vdb1 ─▶ md0 ─▶ reiserfs /srv     vda2 ─▶ vg0 ─▶ jfs /, swap     vdb2 ─▶ LUKS ─▶ f2fs /home
func TestInspect(t *testing.T) {
	if !vmtest.Inside() {
		t.Skip("runs in a machine, by TestJudgeInVM")
	}
	key := filepath.Join(t.TempDir(), "key")
	put(t, key, Passphrase)
	feed(t, "label: dos\nsize=120M, type=fd\ntype=8e\n", "sfdisk", "/dev/vda")
	feed(t, "label: dos\nsize=120M, type=fd\ntype=e8\n", "sfdisk", "/dev/vdb")
	for _, line := range []string{
		"mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 /dev/vda1 /dev/vdb1", "mkfs.reiserfs -qff /dev/md0",
		"lvm vgcreate vg0 /dev/vda2", "lvm lvcreate -y -n root -L 100M vg0", "lvm lvcreate -y -n swap -L 40M vg0",
		"mkfs.jfs -q /dev/vg0/root", "mkswap /dev/vg0/swap",
		"cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vdb2 " + key,
		"cryptsetup open --key-file " + key + " /dev/vdb2 crypt", "mkfs.f2fs -q /dev/mapper/crypt",
	} {
		feed(t, "", strings.Fields(line)...)
	}
	places := []compare.Place{{On: "vg0/root", Type: "jfs", At: "/"}, {On: "md0", Type: "reiserfs", At: "/srv"}, {On: "mapper/crypt", Type: "f2fs", At: "/home"}}
	fill(t, places)
	for _, line := range []string{"mdadm --stop /dev/md0", "lvm vgchange -an vg0", "cryptsetup close crypt"} {
		feed(t, "", strings.Fields(line)...)
	}
	a := compare.Attached{
		Disks:  map[string]string{"sda": "/dev/vda", "sdb": "/dev/vdb"},
		Arrays: []compare.AttachedArray{{Name: "md0", Members: []string{"sda1", "sdb1"}}},
		Crypts: []compare.AttachedCrypt{{Name: "crypt", On: "sdb2", Key: Passphrase}}, Groups: []string{"vg0"},
		Places: places, Swap: "vg0/swap", Words: []string{"secret word"},
	}
	root, err := os.MkdirTemp("", "judge") // stays mounted
	if err != nil {
		t.Fatal(err)
	}
	found, err := a.Inspect(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/etc/motd has golden's secret word", "fstab: swap is on /dev/vg0/none, which isn't vg0/swap"}
	for _, w := range want {
		if !slices.ContainsFunc(found.Problems, func(p string) bool { return strings.HasPrefix(p, w) }) {
			t.Errorf("problems %q, want %q", found.Problems, w)
		}
	}
	if len(found.Problems) != len(want) {
		t.Errorf("problems %q, want these: %q", found.Problems, want)
	}
	for _, name := range []string{"/etc/fstab", "/srv/file", "/home/file"} {
		if found.Tree[name] == nil {
			t.Errorf("%s wasn't found", name)
		}
	}
	if n := len(found.Tables["sda"]); n != 2 || found.Identity["/etc/hostname"] != "node1" {
		t.Errorf("%d partitions on sda, identity %v", n, found.Identity)
	}
}

// fill mounts new file systems, puts files into them, and unmounts them.
func fill(t *testing.T, places []compare.Place) {
	t.Helper()
	root := t.TempDir()
	for _, p := range places {
		if err := os.MkdirAll(root+p.At, 0o755); err != nil {
			t.Fatal(err)
		}
		feed(t, "", "mount", "-t", p.Type, "/dev/"+p.On, root+p.At)
		put(t, root+p.At+"/file", p.At)
	}
	put(t, root+"/etc/hostname", "node1\n")
	put(t, root+"/etc/motd", "the secret word\n")
	put(t, root+"/etc/fstab", "/dev/vg0/root / jfs defaults 0 1\n/dev/md0 /srv reiserfs defaults 0 2\n"+
		"/dev/mapper/crypt /home f2fs defaults 0 2\n/dev/vg0/none none swap sw 0 0\n")
	for _, p := range slices.Backward(places) {
		feed(t, "", "umount", root+p.At)
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// feed runs a program with some input.
func feed(t *testing.T, input string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}
