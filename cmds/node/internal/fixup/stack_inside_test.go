package fixup

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/disk"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/kamethod/kamethod/images/vmlab/vmtest"
)

// What golden's files call its file systems in the tests that boot.
const (
	oldRoot = "11111111-aaaa-4bbb-8ccc-111111111111"
	oldBoot = "22222222-aaaa-4bbb-8ccc-222222222222"
	oldSwap = "33333333-aaaa-4bbb-8ccc-333333333333"
	oldID   = "5e1f0c9a7b3d4286e0d1c2b3a4958677"
)

const (
	stackKey             = "a key of 24 letters long"
	oldLUKS, oldData     = "44444444-aaaa-4bbb-8ccc-444444444444", "55555555-aaaa-4bbb-8ccc-555555555555"
	oldArray0, oldArray1 = "11111111:22222222:33333333:44444440", "11111111:22222222:33333333:44444441"
)

// stackPlan is a golden node with all of it: /boot on one RAID 1, LVM on
// another with the root, the swap and a LUKS container.
func stackPlan() wire.Plan {
	const raid = "A19D880F-05FC-4D3B-A006-743F0F84911E"
	table := layout.Disk{Table: layout.GPT, Parts: []layout.Part{
		{Number: 1, Kind: layout.Primary, GUID: layout.GUIDBIOSBoot, Size: 1 << 20},
		{Number: 2, Kind: layout.Primary, GUID: raid, Size: 200 << 20},
		{Number: 3, Kind: layout.Primary, GUID: raid, Fill: true},
	}}
	return wire.Plan{
		Disks: []wire.DiskPlan{{Name: "sda", Layout: table}, {Name: "sdb", Layout: table}},
		Stack: layout.Stack{
			Arrays: []layout.Array{
				{Name: "md0", Level: 1, Members: []string{"sda2", "sdb2"}, OldUUID: oldArray0},
				{Name: "md1", Level: 1, Members: []string{"sda3", "sdb3"}, OldUUID: oldArray1},
			},
			Crypts: []layout.Crypt{{Name: "safe", Device: "vg-0/safe", OldUUID: oldLUKS}},
			Groups: []layout.Group{{Name: "vg-0", Devices: []string{"md1"}, Volumes: []layout.Volume{
				{Name: "root", Size: 1300 << 20}, {Name: "swap", Size: 64 << 20}, {Name: "safe", Size: 64 << 20},
			}}},
		},
		Secrets: []wire.Secret{{Crypt: "safe", Passphrase: []byte(stackKey)}},
		Filesystems: []wire.Filesystem{
			{On: "vg-0/root", Type: "ext4", MountPoint: "/", OldUUID: oldRoot, OldDevice: "/dev/mapper/vg--0-root"},
			{On: "md0", Type: "ext4", MountPoint: "/boot", OldUUID: oldBoot, OldDevice: "/dev/md0"},
			{On: "mapper/safe", Type: "ext4", MountPoint: "/data", OldUUID: oldData, OldDevice: "/dev/mapper/safe"},
			{On: "vg-0/swap", Type: "swap", OldUUID: oldSwap, OldDevice: "/dev/mapper/vg--0-swap"},
		},
		Loader:   wire.Loader{Kind: "grub"},
		Golden:   wire.Golden{Hostname: "golden", MachineID: oldID},
		Identity: wire.Identity{Hostname: "node%03d"},
	}
}

// TestInsideStack is the machine's part: all that makes the clone start but the
// initrd, which takes an emulated machine a quarter of an hour.
func TestInsideStack(t *testing.T) {
	if !vmtest.Inside() {
		t.Skip("runs in a machine, by TestRealStack")
	}
	plan, root := stackPlan(), filepath.Join(t.TempDir(), "disk")
	ctx, stop := context.WithTimeout(t.Context(), 28*time.Minute)
	defer stop()
	res, err := disk.Prepare(ctx, plan, root, disk.Options{Devices: []string{"vda", "vdb"}, Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, "tar", "-C", root, "-xf", "/dev/vdc").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	plant(t, root, map[string]string{
		"etc/fstab": "/dev/mapper/vg--0-root / ext4 errors=remount-ro 0 1\nUUID=" + oldBoot + " /boot ext4 defaults 0 2\n" +
			"/dev/mapper/safe /data ext4 defaults 0 2\n/dev/mapper/vg--0-swap none swap sw 0 0\n",
		"etc/crypttab":                      "safe UUID=" + oldLUKS + " /etc/safe.key luks\n",
		"etc/safe.key":                      stackKey,
		"etc/mdadm/mdadm.conf":              "HOMEHOST <system>\nARRAY /dev/md/0 metadata=1.2 UUID=" + oldArray0 + " name=golden:0\nARRAY /dev/md/1 metadata=1.2 UUID=" + oldArray1 + " name=golden:1\n",
		"etc/machine-id":                    oldID + "\n",
		"etc/hostname":                      "golden\n",
		"etc/default/grub":                  "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX=\"console=ttyS0 resume=/dev/mapper/vg--0-swap\"\nGRUB_TERMINAL=serial\n",
		"etc/lvm/backup/vg-0":               "golden's",
		"etc/initramfs-tools/conf.d/resume": "RESUME=/dev/mapper/vg--0-swap\n",
	})
	c, err := newClone(Env{Root: root, Plan: plan, Disks: res, Number: 7, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, &Report{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps() {
		if !slices.Contains([]string{"fstab", "storage", "resume", "uuids", "boot-menu", "boot-loader"}, s.name) {
			continue
		}
		if err := c.do(ctx, s); err != nil {
			t.Error(err)
			break
		}
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
	for _, d := range res.Disks {
		f, err := os.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		sector := make([]byte, 512)
		if _, err := f.ReadAt(sector, 0); err != nil || !strings.Contains(string(sector), "GRUB") {
			t.Errorf("%s has no boot record of GRUB's: %v", d, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	menu, err := os.ReadFile(filepath.Join(root, "boot/grub/grub.cfg"))
	if err != nil || !regexp.MustCompile(`root=/dev/(mapper/vg--0-root|vg-0/root) `).Match(menu) || !strings.Contains(string(menu), "mduuid/") {
		t.Errorf("grub.cfg doesn't know the layers: %v\n%s", err, menu)
	}
	if err := disk.Unmount(root, res.Disks...); err != nil {
		t.Fatal(err)
	}
}
