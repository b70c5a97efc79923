package fixup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

const (
	luksWas, luksNow = "aaaaaaaa-0000-4000-8000-00000000000a", "bbbbbbbb-0000-4000-8000-00000000000a"
	mdWas, mdNow     = "aaaaaaaa:00000000:00000000:00000001", "bbbbbbbb:00000000:00000000:00000001"
)

// stackedClone has testPlan's file systems, and besides them an array with a
// container, and a group in it.
func stackedClone(t testing.TB) *clone {
	return newTestClone(t, t.TempDir(), nil, func(e *Env) {
		e.Plan.Stack = layout.Stack{
			Arrays: []layout.Array{{Name: "md0", Level: 1, Members: []string{"sda2", "nvme0n1p3"}, OldUUID: mdWas}},
			Crypts: []layout.Crypt{{Name: "crypt", Device: "md0", OldUUID: luksWas}},
			Groups: []layout.Group{{Name: "my-vg", Devices: []string{"mapper/crypt"}, Volumes: []layout.Volume{{Name: "a-b"}}}},
		}
		e.Plan.Filesystems = append(e.Plan.Filesystems, wire.Filesystem{
			On: "my-vg/a-b", Type: "btrfs", MountPoint: "/srv", OldUUID: "aaaaaaaa-0000-4000-8000-000000000004", OldDevice: "/dev/mapper/my--vg-a--b",
			Subvolumes: []wire.Subvolume{{Path: "@srv", MountPoint: "/srv", Mounted: true}, {Path: "@opt", MountPoint: "/opt", Mounted: true}},
		})
		e.Disks.Stack = []wire.StackResult{
			{Name: "md0", Device: "/dev/md0", UUID: mdNow}, {Name: "mapper/crypt", Device: "/dev/dm-0", UUID: luksNow},
			{Name: "my-vg"}, {Name: "my-vg/a-b", Device: "/dev/dm-1"},
		}
		e.Disks.Filesystems[2].PartID = "33333333-05"
		e.Disks.Filesystems = append(e.Disks.Filesystems, wire.FilesystemResult{Device: "/dev/dm-1", UUID: "bbbbbbbb-0000-4000-8000-000000000004"})
	})
}

func TestStack(t *testing.T) {
	c := stackedClone(t)
	v, ok := c.vols.at("/opt")
	if !ok || v.disk != "/dev/vda" || strings.Join(v.disks, " ") != "/dev/vda /dev/vdb" || len(v.via) != 3 {
		t.Errorf("/opt is on %+v", v)
	}
	for _, name := range []string{"/dev/my-vg/a-b", "/dev/mapper/my--vg-a--b"} {
		if _, ok := c.vols.find(name); !ok || !c.vols.stays(name) {
			t.Errorf("%s isn't known", name)
		}
	}
	if c.vols.stays("/dev/mapper/my-vg-a-b") || c.vols.stays("/dev/sda1") {
		t.Error("a name that isn't the clone's stays")
	}
	for name, want := range map[string]string{"sda2": "/dev/vda2", "nvme0n1p3": "/dev/vdb3", "nvme0n1": "/dev/vdb", "md0": "/dev/md0", "sdz1": ""} {
		if got, _ := c.stk.node(name); got != want {
			t.Errorf("%s is %q on the node, want %q", name, got, want)
		}
	}
	if d := c.bootDisks(v); len(d) != 2 {
		t.Errorf("of a RAID 1 only %q would boot", d)
	}
	if v, ok := c.vols.holds("/var/lib/x"); !ok || v.old.MountPoint != "/var" {
		t.Errorf("/var/lib/x is in %+v", v.old)
	}
}

// TestRenumbered: a clone whose table is of another kind has other numbers, and
// golden's names are golden's.
func TestRenumbered(t *testing.T) {
	p, d := testPlan()
	p.Filesystems[0].Part, p.Filesystems[2].Part, p.Filesystems[2].OldDevice = 5, 1, "/dev/sda5"
	vols, err := newVolumes(p, d)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"/dev/sda1": rootNow, "/dev/sda5": swapNow} {
		if v, ok := vols.find(name); !ok || v.now.UUID != want {
			t.Errorf("%s is %+v", name, v.now)
		}
	}
}

// TestStackRefuses: what the node didn't make is no clone's.
func TestStackRefuses(t *testing.T) {
	p, d := testPlan()
	p.Stack.Arrays = []layout.Array{{Name: "md0", Members: []string{"sda2"}, OldUUID: mdWas}}
	if _, err := newStack(p, d); err == nil || !strings.Contains(err.Error(), "array md0") {
		t.Errorf("an array that wasn't made: %v", err)
	}
	d.Stack = []wire.StackResult{{Name: "md0", Device: "/dev/md0", UUID: "a b\nARRAY"}}
	if _, err := newStack(p, d); err == nil {
		t.Error("took a UUID with a blank")
	}
	d.Stack[0].UUID = mdNow
	p.Filesystems[0].On = "vg0/none"
	if _, err := newVolumes(p, d); err == nil || !strings.Contains(err.Error(), "vg0/none") {
		t.Errorf("a volume of no group: %v", err)
	}
}

func TestStorageTexts(t *testing.T) {
	c := stackedClone(t)
	arrays := []id{{"/dev/md0", mdWas, mdNow}}
	crypttab := func(s string) (string, []string) { return rewriteCrypttab(s, c) }
	mdadm := func(s string) (string, []string) { return rewriteArrays(s, arrays) }
	fstab := func(s string) (string, []string) { return rewriteFstab(s, c.vols) }
	cmdline := func(s string) (string, []string) { return rewriteCmdline(s, c.vols) }
	lilo := func(s string) (string, []string) { return rewriteLilo(s, c) }
	legacy := func(s string) (string, []string) { return rewriteLegacy(s, c.drives(), c.vols) }
	const own = "ARRAY /dev/md0 UUID=" + mdNow + "\n"
	for _, tt := range []struct {
		name     string
		rewrite  func(string) (string, []string)
		in, want string
	}{
		{"crypttab by UUID", crypttab, "# c\n crypt\tUUID=" + strings.ToUpper(luksWas) + "  none luks,discard\n", "# c\n crypt\tUUID=" + luksNow + "  none luks,discard\n"},
		{"crypttab by device", crypttab, "crypt /dev/md0 /etc/key", "crypt UUID=" + luksNow + " /etc/key"},
		{"crypttab, another name", crypttab, "other /dev/disk/by-uuid/" + luksWas + " none\n", "other UUID=" + luksNow + " none\n"},
		{"crypttab, by-id", crypttab, "crypt /dev/disk/by-id/x-part2 none\n", "crypt UUID=" + luksNow + " none\n"},
		{"crypttab, swap under a new key", crypttab, "cs /dev/disk/by-id/ata-GOLDEN-part5 /dev/urandom swap\n", "cs PARTUUID=33333333-05 /dev/urandom swap\n"},
		{"crypttab, swap under a new key, a name of golden's alone", crypttab, "cs /dev/disk/by-id/x-part5 /dev/random swap,size=256\n", "cs PARTUUID=33333333-05 /dev/random swap,size=256\n"},
		{"crypttab, swap under a new key on a volume", crypttab, "cs /dev/mapper/my--vg-a--b /dev/urandom swap\n", "cs /dev/my-vg/a-b /dev/urandom swap\n"},
		{"crypttab, on a volume", crypttab, "x /dev/my-vg/a-b none\n", "x /dev/my-vg/a-b none\n"},
		{"crypttab, not on the clone", crypttab, "x UUID=cccccccc-0000-4000-8000-00000000000a none\n", notCloned + "x UUID=cccccccc-0000-4000-8000-00000000000a none\n"},
		{"crypttab, a file", crypttab, "x /var/img none\n\n#\nx\n", "x /var/img none\n\n#\nx\n"},
		{"mdadm", mdadm, "array /dev/md0 UUID=" + mdWas + " name=g:0 devices=/dev/sda2,/dev/sdb2 spares=1\nMAILADDR x\n", "array /dev/md0 UUID=" + mdNow + " spares=1\nMAILADDR x\n"},
		{"mdadm, by name", mdadm, "ARRAY /dev/md/0 level=raid1 num-devices=2\n", "ARRAY /dev/md/0 level=raid1 num-devices=2\n"},
		{"mdadm, two lines", mdadm, "ARRAY /dev/md/home\n  UUID=" + mdWas + "\n", notCloned + "ARRAY /dev/md/home\n" + notCloned + "UUID=" + mdWas + "\n" + own},
		{"mdadm, another's", mdadm, "ARRAY /dev/md7 UUID=cccccccc:0:0:1\n\tspares=1\nHOMEHOST x\n", notCloned + "ARRAY /dev/md7 UUID=cccccccc:0:0:1\n" + notCloned + "spares=1\nHOMEHOST x\n" + own},
		{"mdadm, none", mdadm, "DEVICE partitions", "DEVICE partitions\n" + own},
		{"fstab by LVM", fstab, "/dev/mapper/my--vg-a--b /srv btrfs subvolid=300,subvol=/@srv 0 0\n", "/dev/mapper/my--vg-a--b /srv btrfs subvol=/@srv 0 0\n"},
		{"fstab by number", fstab, "UUID=aaaaaaaa-0000-4000-8000-000000000004\t/opt\tbtrfs\trw,subvolid=301\t0 0\n", "UUID=bbbbbbbb-0000-4000-8000-000000000004\t/opt\tbtrfs\trw,subvol=/@opt\t0 0\n"},
		{"fstab, another group", fstab, "/dev/other/lv /x xfs defaults 0 0\n", notCloned + "/dev/other/lv /x xfs defaults 0 0\n"},
		{"rootflags", cmdline, "root=/dev/sda1 rootflags=subvolid=256,subvol=@ x", "root=UUID=" + rootNow + " rootflags=subvol=@ x"},
		{"by PARTUUID", cmdline, "root=PARTUUID=DEADBEEF-01 x", "root=PARTUUID=11111111-01 x"},
		{"resume by LVM", cmdline, "root=/dev/my-vg/a-b resume=/dev/my-vg/a-b", "root=/dev/my-vg/a-b "},
		{"lilo", lilo, "# boot=/dev/sda\nboot = /dev/nvme0n1\nroot=\"LABEL=my root\"\nother=/dev/sda5\n  table=/dev/sda\nother=/dev/sdq1\n label=w\nimage=/x\n append=\"root=/dev/sda1\"\n",
			"# boot=/dev/sda\nboot = /dev/vdb\nroot=\"UUID=" + rootNow + "\"\nother=/dev/vda5\n  table=/dev/sda\n" + notCloned + "other=/dev/sdq1\n" + notCloned + " label=w\nimage=/x\n append=\"root=UUID=" + rootNow + "\"\n"},
		{"legacy", legacy, "# (hd0,0)\ntitle a\nroot (hd0,0)\nkernel /k root=/dev/sda1\ntitle b\nkernel (hd1,1)/k root=/dev/sda1\ninitrd /i\nroot (hd9,9)\n",
			"# (hd0,0)\ntitle a\nroot (hd0,0)\nkernel /k root=/dev/vda1\ntitle b\nkernel (hd1,1)/k root=UUID=" + rootNow + "\ninitrd /i\nroot (hd9,9)\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := tt.rewrite(tt.in)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if again, _ := tt.rewrite(got); again != got {
				t.Errorf("the second time:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

func TestReplaceIDs(t *testing.T) {
	ids := []id{{"array", mdWas, mdNow}, {"container", luksWas, luksNow}, {"volume group", "abcdef-0000-1111-2222-3333-4444-555555", "ghijkl-0000-1111-2222-3333-4444-555555"}}
	in := "md-uuid-" + mdWas + " mduuid/aaaaaaaa000000000000000000000001 rd.luks.uuid=luks-" + luksWas + " cryptouuid/aaaaaaaa00004000800000000000000a lvmid/abcdef-0000-1111-2222-3333-4444-555555/x x" + mdWas
	want := "md-uuid-" + mdNow + " mduuid/bbbbbbbb000000000000000000000001 rd.luks.uuid=luks-" + luksNow + " cryptouuid/bbbbbbbb00004000800000000000000a lvmid/ghijkl-0000-1111-2222-3333-4444-555555/x x" + mdWas
	if d := cmp.Diff(want, replaceIDs(in, ids)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestGrubenv(t *testing.T) {
	block := func(body string) string {
		return grubenvHead + body + strings.Repeat("#", grubenvSize-len(grubenvHead)-len(body))
	}
	change := func(s string) string { return strings.ReplaceAll(s, "root=/dev/sda1", "root=UUID="+rootNow) }
	got, err := rewriteGrubenv(block("kernelopts=root=/dev/sda1 ro\n"), change)
	if want := block("kernelopts=root=UUID=" + rootNow + " ro\n"); err != nil || got != want {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	full := block("x=root=/dev/sda1" + strings.Repeat("y", grubenvSize-len(grubenvHead)-20) + "\n")
	if got, err := rewriteGrubenv(full, change); err == nil || got != full {
		t.Errorf("a block without room: %v", err)
	}
	if got, err := rewriteGrubenv("root=/dev/sda1", change); err == nil || got != "root=/dev/sda1" {
		t.Errorf("no block: %v, %q", err, got)
	}
}

func TestModprobe(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		hw             hardware
	}{
		{"all new", "", "alias eth0 e1000\nalias scsi_hostadapter ahci\nalias scsi_hostadapter1 mptspi\n", hardware{[]string{"e1000"}, []string{"ahci", "mptspi"}}},
		{"golden's go", "alias eth0 tg3 # c\n#alias eth1 x\nalias eth1 tg3\nalias scsi_hostadapter1 aic7xxx\nalias scsi_hostadapter ahci\noptions tg3 a=b\n", "alias eth0 e1000\n#alias eth1 x\nalias scsi_hostadapter ahci\noptions tg3 a=b\n", hardware{[]string{"e1000"}, []string{"ahci"}}},
		{"no card is known", "alias eth0 tg3\nalias scsi_hostadapter x", "alias eth0 tg3\nalias scsi_hostadapter ahci\n", hardware{nil, []string{"ahci"}}},
	} {
		got := rewriteModprobe(tt.in, tt.hw)
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, d)
		}
		if again := rewriteModprobe(got, tt.hw); again != got {
			t.Errorf("%s, the second time:\n%s", tt.name, cmp.Diff(got, again))
		}
	}
}

// lines checks what every rewriter keeps: comments and lines that name nothing
// of golden's, byte for byte, and all of it the second time.
func lines(t *testing.T, rewrite func(string) string, text string) {
	t.Helper()
	got := rewrite(text)
	if again := rewrite(got); again != got {
		t.Fatalf("not the same the second time:\n%q\n%q", got, again)
	}
	have := map[string]int{}
	for l := range strings.SplitSeq(got, "\n") {
		have[l]++
	}
	for l := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(strings.TrimLeft(l, blanks), "#") {
			if have[l]--; have[l] < 0 {
				t.Fatalf("comment %q of\n%q\nis not in\n%q", l, text, got)
			}
		}
	}
}

func FuzzCrypttab(f *testing.F) {
	f.Add("# c\ncrypt UUID=" + luksWas + " none luks\nx /dev/sdq1 none\n\t y\t/img")
	f.Add("a\vb c\na \x00 UUID= b\r\n")
	c := stackedClone(f)
	f.Fuzz(func(t *testing.T, text string) {
		lines(t, func(s string) string { out, _ := rewriteCrypttab(s, c); return out }, text)
	})
}

func FuzzMdadm(f *testing.F) {
	f.Add("# c\nARRAY /dev/md0 UUID=" + mdWas + " name=a:0\n  devices=x\nARRAY /dev/md9\n\tUUID=0\nDEVICE x")
	f.Add("ARRAY\n ARRAY x\nARRAY /dev/md0 name=#")
	f.Fuzz(func(t *testing.T, text string) {
		lines(t, func(s string) string { out, _ := rewriteArrays(s, []id{{"/dev/md0", mdWas, mdNow}}); return out }, text)
	})
}

func FuzzLegacyMenu(f *testing.F) {
	f.Add("# c\ntitle x\nroot (hd0,0)\nkernel (hd1,1)/k root=/dev/sda1 resume=/dev/sda5 x=y\ninitrd /i\n")
	f.Add("title\ntitle\nkernel(hd99,999)(hd0,4) root=UUID=" + varWas)
	c := stackedClone(f)
	d := c.drives()
	f.Fuzz(func(t *testing.T, text string) {
		lines(t, func(s string) string {
			out, _ := rewriteLegacy(s, d, c.vols)
			return replaceIDs(out, c.ids)
		}, text)
	})
}

func FuzzLilo(f *testing.F) {
	f.Add("# c\nboot=/dev/sda\nimage=/x\n\troot=/dev/sda1\n\tappend=\"resume=/dev/sda5\"\nother=/dev/sdq1\n label=w\n")
	f.Add("boot=\"\"\nroot=\"UUID=" + rootWas + "\" # x\ndisk=/dev/nvme0n1 bios=0x80\nboot=/dev/disk/by-id/x")
	c := stackedClone(f)
	f.Fuzz(func(t *testing.T, text string) {
		lines(t, func(s string) string { out, _ := rewriteLilo(s, c); return replaceIDs(out, c.ids) }, text)
	})
}

// FuzzEntry is for BLS entries, extlinux.conf and whatever else has a kernel's
// parameters in its lines.
func FuzzEntry(f *testing.F) {
	f.Add("title x\noptions root=UUID=" + rootWas + " rootflags=subvolid=5,subvol=@ resume=/dev/sda5 resume_offset=1 # c\n# root=/dev/sda1\n")
	f.Add("APPEND initrd=/i root=/dev/sda1 rd.luks.uuid=luks-" + luksWas + "\nlinux /" + idWas + "/6.1/linux\nlinux")
	f.Add("rootflags=subvolid= resume=resume= root=\"root='root=")
	c := stackedClone(f)
	f.Fuzz(func(t *testing.T, text string) {
		lines(t, func(s string) string {
			out, _ := rewriteCmdline(s, c.vols)
			entryImage(out)
			return out
		}, text)
		lines(t, func(s string) string { return rewriteModprobe(s, hardware{[]string{"e1000"}, []string{"ahci"}}) }, text)
		lines(t, func(s string) string { return addArrayWords(s, "MODULES", []string{"ahci"}) }, text)
		parseDeviceMap(text)
	})
}

func FuzzGrubenv(f *testing.F) {
	f.Add(grubenvHead + "saved_entry=" + rootWas + "\n" + strings.Repeat("#", 900))
	f.Add(grubenvHead + strings.Repeat("root=/dev/sda1 ", 66) + strings.Repeat("#", 10))
	vols := testVolumes(f)
	f.Fuzz(func(t *testing.T, text string) {
		got, _ := rewriteGrubenv(text, func(s string) string {
			out, _ := rewriteCmdline(s, vols)
			return replaceIDs(out, vols.ids())
		})
		if len(got) != len(text) {
			t.Fatalf("%d bytes became %d", len(text), len(got))
		}
	})
}
