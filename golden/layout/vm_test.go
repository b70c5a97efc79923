package layout_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/images/vmlab"
	"github.com/kamethod/kamethod/images/vmlab/vmtest"
)

// TestInVM has mdadm, cryptsetup and LVM judge what this package says that
// arrays, containers and groups hold: under the nodes' kernel, on disks that
// take no room.
func TestInVM(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	disk := vmlab.Disk{Size: 300 << 30}
	vmtest.Run(t, vmtest.Machine{Run: "^TestVM", Disks: []vmlab.Disk{disk, disk, disk, disk}, Memory: 768, Timeout: 15 * time.Minute})
}

func inVM(t *testing.T) {
	t.Helper()
	if !vmtest.Inside() {
		t.Skip("runs in a machine, by TestInVM")
	}
	for _, m := range []string{"dm_mod", "md_mod", "raid0", "raid1", "raid10", "raid456", "dm_crypt", "algif_skcipher"} {
		exec.Command("modprobe", m).Run() // what is missing shows below
	}
}

func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), "MDADM_NO_UDEV=1", "DM_DISABLE_UDEV=1", "LC_ALL=C")
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// members makes devices of so many bytes, one on each disk; not at its
// beginning, where LVM would find what is on the device a second time.
func members(t *testing.T, bytes int64) []string {
	t.Helper()
	var all []string
	for _, d := range []string{"a", "b", "c", "d"} {
		name := "member" + d
		run(t, "", "dmsetup", "create", name, "--table", fmt.Sprintf("0 %d linear /dev/vd%s 2048", bytes/512, d))
		all = append(all, "/dev/mapper/"+name)
	}
	return all
}

func dropMembers(t *testing.T, all []string) {
	t.Helper()
	for _, m := range all {
		run(t, "", "dmsetup", "remove", "--retry", m)
	}
}

// size is what the kernel says of a device.
func size(t *testing.T, dev string) int64 {
	t.Helper()
	f, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestVMArrays: no array is smaller than its Capacity, nor larger by more than
// what is held back for mdadm's versions.
func TestVMArrays(t *testing.T) {
	inVM(t)
	for _, mb := range []int64{130, 150000} {
		bytes := mb<<20 + 3<<9
		all := members(t, bytes)
		for _, c := range []struct{ level, members int }{{0, 3}, {1, 2}, {4, 3}, {5, 3}, {6, 4}, {10, 2}, {10, 3}} {
			for _, metadata := range []string{"", "1.0", "0.90"} {
				if c.level == 0 && metadata == "0.90" {
					continue // refused
				}
				a := layout.Array{Name: "md9", Level: c.level, Metadata: metadata, Members: all[:c.members]}
				sizes := []int64{bytes, bytes, bytes, bytes}[:c.members]
				want, err := a.Capacity(sizes)
				if err != nil {
					t.Fatal(err)
				}
				args := []string{"--create", "/dev/md9", "--run", "--assume-clean", "--homehost=any", "--level=" + strconv.Itoa(c.level), "--raid-devices=" + strconv.Itoa(c.members)}
				if metadata != "" {
					args = append(args, "--metadata="+metadata)
				}
				run(t, "", "mdadm", append(args, a.Members...)...)
				got := size(t, "/dev/md9")
				t.Logf("level %d of %d of %d MB, metadata %q: %d, capacity %d: %d KiB more", c.level, c.members, mb, metadata, got, want, (got-want)>>10)
				if got < want || got-want > 8<<20 {
					t.Errorf("level %d of %d of %d MB, metadata %q: %d, capacity %d", c.level, c.members, mb, metadata, got, want)
				}
				run(t, "", "mdadm", "--stop", "/dev/md9")
				for _, m := range a.Members {
					run(t, "", "mdadm", "--zero-superblock", m)
				}
			}
		}
		dropMembers(t, all)
	}
}

// TestVMCrypts: a container has just its Capacity.
func TestVMCrypts(t *testing.T) {
	inVM(t)
	for _, bytes := range []int64{40<<20 + 512, 1000 << 20} {
		all := members(t, bytes)
		for version := range 3 {
			c := layout.Crypt{Name: "c", Device: "x", Version: version}
			want, err := c.Capacity(bytes)
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"luksFormat", "--batch-mode", "--key-file=-", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"}
			if version > 0 {
				args = append(args, fmt.Sprintf("--type=luks%d", version))
			}
			run(t, "secret", "cryptsetup", append(args, all[0])...)
			run(t, "secret", "cryptsetup", "open", "--type=luks", "--key-file=-", all[0], "c")
			got := size(t, "/dev/mapper/c")
			t.Logf("LUKS %d on %d: %d, capacity %d", version, bytes, got, want)
			if got < want || got-want >= 4096 {
				t.Errorf("LUKS %d on %d: %d, capacity %d", version, bytes, got, want)
			}
			run(t, "", "cryptsetup", "close", "c")
		}
		dropMembers(t, all)
	}
}

// TestVMGroups: LVM has room for just what Fit says, to the extent, and makes
// the striped volumes that Fit takes.
func TestVMGroups(t *testing.T) {
	inVM(t)
	lvm := func(args ...string) string {
		return run(t, "", "lvm", append([]string{args[0], "--config", "activation{udev_sync=0 udev_rules=0}"}, args[1:]...)...)
	}
	for _, c := range []struct{ bytes, extent int64 }{{40<<20 + 512, 0}, {1001 << 20, 4 << 20}, {1003 << 20, 128 << 10}, {9000 << 20, 32 << 20}} {
		all := members(t, c.bytes)
		g := layout.Group{Name: "vg9", Devices: all[:3], Extent: c.extent, Volumes: []layout.Volume{
			{Name: "striped", Percent: 40, Stripes: 3}, {Name: "two", Percent: 10, Stripes: 2}, {Name: "rest", Fill: true},
		}}
		sizes, err := g.Fit([]int64{c.bytes, c.bytes, c.bytes})
		if err != nil {
			t.Fatal(err)
		}
		for _, pv := range g.Devices {
			lvm("pvcreate", "-ff", "-y", "--dataalignment", "1m", pv)
		}
		lvm(append([]string{"vgcreate", "-y", "-s", fmt.Sprintf("%db", g.ExtentSize()), g.Name}, g.Devices...)...)
		for i, v := range g.Volumes {
			lvm("lvcreate", "-y", "-Wn", "-Zn", "-n", v.Name, "-i", strconv.Itoa(max(v.Stripes, 1)), "-L", fmt.Sprintf("%db", sizes[i]), g.Name)
			if got := size(t, "/dev/mapper/"+g.Name+"-"+v.Name); got != sizes[i] {
				t.Errorf("%s of %+v is %d, want %d", v.Name, c, got, sizes[i])
			}
		}
		// At most what the stripes' even numbers leave.
		free, err := strconv.ParseInt(strings.TrimSpace(lvm("vgs", "--noheadings", "-o", "vg_free_count", g.Name)), 10, 64)
		t.Logf("extents of %d on 3 of %d: %d MB, %d MB, %d MB, %d extents free", g.ExtentSize(), c.bytes, sizes[0]>>20, sizes[1]>>20, sizes[2]>>20, free)
		if err != nil || free > 3 {
			t.Errorf("%+v: %d extents are left: %v", c, free, err)
		}
		lvm("vgremove", "-ff", "-y", g.Name)
		lvm("pvremove", "-ff", "-y", all[0], all[1], all[2])
		dropMembers(t, all)
	}
}
