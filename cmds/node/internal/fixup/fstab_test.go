package fixup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

const (
	rootWas = "aaaaaaaa-0000-4000-8000-000000000001"
	rootNow = "bbbbbbbb-0000-4000-8000-000000000001"
	varWas  = "aaaaaaaa-0000-4000-8000-000000000002"
	varNow  = "bbbbbbbb-0000-4000-8000-000000000002"
	swapWas = "aaaaaaaa-0000-4000-8000-000000000003"
	swapNow = "bbbbbbbb-0000-4000-8000-000000000003"
	idWas   = "00112233445566778899aabbccddeeff"
)

func testPlan() (wire.Plan, wire.DiskResult) {
	p := wire.Plan{
		Disks: []wire.DiskPlan{
			{Name: "sda", Layout: layout.Disk{Parts: []layout.Part{{Number: 1, Name: "sysroot"}, {Number: 5}}}},
			{Name: "nvme0n1"},
		},
		Filesystems: []wire.Filesystem{
			{Disk: 0, Part: 1, Type: "ext4", Label: "my root", MountPoint: "/", OldUUID: rootWas, OldPartID: "deadbeef-01", OldDevice: "/dev/sda1"},
			{Disk: 1, Part: 2, Type: "ext3", MountPoint: "/var", OldUUID: varWas, OldPartID: "cafecafe-02"},
			{Disk: 0, Part: 5, Type: "swap", OldUUID: swapWas, OldDevice: "/dev/disk/by-id/ata-GOLDEN-part5"},
		},
		Golden: wire.Golden{Hostname: "golden", MachineID: idWas},
	}
	d := wire.DiskResult{
		Disks: []string{"/dev/vda", "/dev/vdb"},
		Filesystems: []wire.FilesystemResult{
			{Device: "/dev/vda1", UUID: rootNow, PartID: "11111111-01"},
			{Device: "/dev/vdb2", UUID: varNow, PartID: "22222222-02"},
			{Device: "/dev/vda5", UUID: swapNow},
		},
	}
	return p, d
}

// newVolumes joins a plan and what a node made of it.
func newVolumes(p wire.Plan, d wire.DiskResult) (volumes, error) {
	s, err := newStack(p, d)
	if err != nil {
		return nil, err
	}
	return s.volumes(p, d)
}

func testVolumes(t testing.TB) volumes {
	p, d := testPlan()
	v, err := newVolumes(p, d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRewriteFstab(t *testing.T) {
	for _, tt := range []struct{ name, in, want, note string }{
		{"uuid", "UUID=" + rootWas + " / ext4 defaults 0 1\n", "UUID=" + rootNow + " / ext4 defaults 0 1\n", ""},
		{"uuid in capitals and quotes", `UUID="` + strings.ToUpper(rootWas) + `" / ext4 defaults 0 1`, "UUID=" + rootNow + " / ext4 defaults 0 1", ""},
		{"device, tabs stay", "/dev/sda1\t/\text4\tdefaults\t0\t1\n", "UUID=" + rootNow + "\t/\text4\tdefaults\t0\t1\n", ""},
		{"device with p", "/dev/nvme0n1p2 /var ext3 defaults 0 2\n", "UUID=" + varNow + " /var ext3 defaults 0 2\n", ""},
		{"columns stay", "/dev/sda1" + strings.Repeat(" ", 41) + "/   ext4 ro 0 1\n", "UUID=" + rootNow + strings.Repeat(" ", 9) + "/   ext4 ro 0 1\n", ""},
		{"column too narrow", "/dev/sda1   /   ext4 ro 0 1\n", "UUID=" + rootNow + " /   ext4 ro 0 1\n", ""},
		{"label with a blank", "LABEL=my\\040root / ext4 ro 0 1\n", "UUID=" + rootNow + " / ext4 ro 0 1\n", ""},
		{"partuuid", "PARTUUID=DEADBEEF-01 / ext4 x 0 0\n", "UUID=" + rootNow + " / ext4 x 0 0\n", ""},
		{"partlabel", "PARTLABEL=sysroot / ext4 x 0 0\n", "UUID=" + rootNow + " / ext4 x 0 0\n", ""},
		{"by-uuid", "/dev/disk/by-uuid/" + varWas + " /var ext3 x 0 0\n", "UUID=" + varNow + " /var ext3 x 0 0\n", ""},
		{"by-label", `/dev/disk/by-label/my\x20root / ext4 x 0 0`, "UUID=" + rootNow + " / ext4 x 0 0", ""},
		{"by mount point", "/dev/disk/by-id/ata-FOO-part9 /var ext3 x 0 0\n", "UUID=" + varNow + " /var ext3 x 0 0\n", ""},
		{"swap", "UUID=" + swapWas + " none swap sw 0 0\n", "UUID=" + swapNow + " none swap sw 0 0\n", ""},
		{"swap by its odd name", "/dev/disk/by-id/ata-GOLDEN-part5 none swap sw 0 0\n", "UUID=" + swapNow + " none swap sw 0 0\n", ""},
		{"the only swap", "/dev/disk/by-path/pci-1 none swap sw 0 0\n", "UUID=" + swapNow + " none swap sw 0 0\n", ""},
		{"one swap too many", "/dev/sda5 none swap sw 0 0\n/dev/sdc1 none swap sw 0 0\n", "UUID=" + swapNow + " none swap sw 0 0\n" + notCloned + "/dev/sdc1 none swap sw 0 0\n", "/dev/sdc1"},
		{"not cloned", "  /dev/sdb1 /data ext4 x 0 0 # mine\n", "  " + notCloned + "/dev/sdb1 /data ext4 x 0 0 # mine\n", "/dev/sdb1 (/data)"},
		{"another type", "/dev/sda1 / xfs x 0 0\n", notCloned + "/dev/sda1 / xfs x 0 0\n", "/ was xfs and is ext4"},
		{"any type", "/dev/sda1 / auto x 0 0\n", "UUID=" + rootNow + " / auto x 0 0\n", ""},
		{"a newer driver's type", "UUID=" + varWas + " /var ext4 x 0 0\n", "UUID=" + varNow + " /var ext4 x 0 0\n", ""},
		{"an older driver's type", "UUID=" + rootWas + " / ext3 x 0 0\n", notCloned + "UUID=" + rootWas + " / ext3 x 0 0\n", "/ was ext3 and is ext4"},
		{"already so", "UUID=" + rootNow + " / ext4 x 0 0\n", "UUID=" + rootNow + " / ext4 x 0 0\n", ""},
		{"others stay", "proc /proc proc defaults 0 0\n/swapfile none swap sw 0 0\nnas:/x /x nfs ro 0 0\n/dev/sr0 /cd auto ro 0 0\n/dev/cdrom /cd auto ro 0 0\n/srv /mnt none bind 0 0\n//nas/x /y cifs guest 0 0\n",
			"proc /proc proc defaults 0 0\n/swapfile none swap sw 0 0\nnas:/x /x nfs ro 0 0\n/dev/sr0 /cd auto ro 0 0\n/dev/cdrom /cd auto ro 0 0\n/srv /mnt none bind 0 0\n//nas/x /y cifs guest 0 0\n", ""},
		{"comments, blanks and nonsense stay", "# UUID=" + rootWas + "\n\n   \n/dev/sda1\n/dev/sda1 /\n", "# UUID=" + rootWas + "\n\n   \n/dev/sda1\n/dev/sda1 /\n", ""},
		{"empty", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vols := testVolumes(t)
			got, notes := rewriteFstab(tt.in, vols)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if tt.note != "" && !strings.Contains(strings.Join(notes, "\n"), tt.note) {
				t.Errorf("notes %q, want one with %q", notes, tt.note)
			}
			if again, _ := rewriteFstab(got, vols); again != got {
				t.Errorf("the second time:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

func TestAddMissing(t *testing.T) {
	const root, vari, swap = "UUID=" + rootNow + " / ext4 errors=remount-ro 0 1\n", "UUID=" + varNow + " /my\\040var ext3 defaults 0 2\n", "UUID=" + swapNow + " none swap sw 0 0\n"
	for _, tt := range []struct{ name, in, want string }{
		{"none", "", root + vari + swap},
		{"no end of line", "# c", "# c\n" + root + vari + swap},
		{"all there", root + vari + swap, root + vari + swap},
		{"something else is there", "overlay / overlay x 0 0\nLABEL=x /my\\040var xfs x 0 0\n", "overlay / overlay x 0 0\nLABEL=x /my\\040var xfs x 0 0\n" + swap},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, d := testPlan()
			p.Filesystems[1].MountPoint = "/my var"
			vols, err := newVolumes(p, d)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := addMissing(tt.in, vols)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if again, added := addMissing(got, vols); again != got || len(added) > 0 {
				t.Errorf("the second time %q:\n%s", added, cmp.Diff(got, again))
			}
		})
	}
}

func TestRewriteFstabTwoOfOneLabel(t *testing.T) {
	p, d := testPlan()
	p.Filesystems[1].Label = p.Filesystems[0].Label
	vols, err := newVolumes(p, d)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := rewriteFstab("LABEL=my\\040root /var ext3 x 0 0\n", vols)
	if want := "UUID=" + varNow + " /var ext3 x 0 0\n"; got != want { // the mount point decides
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNewVolumesRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*wire.Plan, *wire.DiskResult){
		"disk missing":      func(_ *wire.Plan, d *wire.DiskResult) { d.Disks = d.Disks[:1] },
		"system missing":    func(_ *wire.Plan, d *wire.DiskResult) { d.Filesystems = nil },
		"no such disk":      func(p *wire.Plan, _ *wire.DiskResult) { p.Filesystems[0].Disk = 2 },
		"negative disk":     func(p *wire.Plan, _ *wire.DiskResult) { p.Filesystems[0].Disk = -1 },
		"UUID with a blank": func(_ *wire.Plan, d *wire.DiskResult) { d.Filesystems[0].UUID = "a b\nc" },
		"no UUID":           func(_ *wire.Plan, d *wire.DiskResult) { d.Filesystems[0].UUID = "" },
	} {
		p, d := testPlan()
		spoil(&p, &d)
		if _, err := newVolumes(p, d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzRewriteFstab(f *testing.F) {
	f.Add("UUID=" + rootWas + " / ext4 defaults 0 1\n# c\n/dev/sdb1\t/x ext4 0 0\n/dev/sda5 none swap sw 0 0")
	f.Add("LABEL=my\\040root / ext4\r\n\t/dev/x\\ y z\n\"UUID=\" a b")
	f.Add("/dev/disk/by-label/\\x2 / swap\n/dev/disk/by-uuid//a b c\n= = =\n")
	vols := testVolumes(f)
	f.Fuzz(func(t *testing.T, text string) {
		got, _ := rewriteFstab(text, vols)
		if a, b := strings.Count(text, "\n"), strings.Count(got, "\n"); a != b {
			t.Fatalf("%d lines became %d", a, b)
		}
		if again, _ := rewriteFstab(got, vols); again != got {
			t.Fatalf("not the same the second time:\n%q\n%q", got, again)
		}
		whole, _ := addMissing(got, vols)
		if again, added := addMissing(whole, vols); again != whole {
			t.Fatalf("added again: %q", added)
		}
		was, is := strings.Split(text, "\n"), strings.Split(got, "\n")
		for i := range was {
			trimmed := strings.TrimLeft(was[i], blanks)
			if (trimmed == "" || trimmed[0] == '#') && was[i] != is[i] {
				t.Fatalf("comment changed: %q to %q", was[i], is[i])
			}
			if l, ok := parseFstabLine(is[i]); ok && isGoldenDisk(l.spec) {
				if !strings.HasPrefix(l.spec, "UUID=bbbbbbbb-") {
					t.Fatalf("still golden's: %q", is[i])
				}
			}
		}
	})
}
