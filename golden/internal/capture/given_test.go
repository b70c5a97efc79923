package capture

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

const lvmYAML = `disks:
  sda:
    match: {size: ">=10G"}
    partitions:
      - bios 1M
      - efi 200M vfat /boot/efi
      - {type: linux, size: 300M, mount: /boot}
      - {type: lvm, size: fill}
lvm:
  vg-a:
    of: sda4
    volumes:
      root: {size: 2G, mount: /}
      home: {size: fill, fs: xfs, mount: /home, label: people}
      swap: 1G swap
`

// where prints a plan's file systems by their places.
func where(m *Machine) string {
	var list []string
	for _, fs := range m.Plan.Filesystems {
		on := fs.On
		if on == "" {
			on = layout.PartitionName(m.Plan.Disks[fs.Disk].Name, fs.Part)
		}
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s", on, fs.Type, fs.MountPoint)))
	}
	return strings.Join(list, ", ")
}

func yamlFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layout.yaml")
	write(t, path, text)
	return path
}

// TestLayoutFile: what a layout file says of places counts before what an
// fstab says.
func TestLayoutFile(t *testing.T) {
	for name, c := range map[string]struct{ fstab, yaml, want, err string }{
		"by mount point": {fstab: "UUID=a / ext4\nUUID=b /boot ext4\nUUID=c /home xfs\nUUID=d none swap\nUUID=AAAA-BBBB /boot/efi vfat\n",
			want: "vg-a/root ext4 /, vg-a/home xfs /home, sda2 vfat /boot/efi, sda3 ext4 /boot, vg-a/swap swap"},
		"by device": {fstab: "/dev/mapper/vg--a-root / ext4\n/dev/sda3 /boot ext4\n/dev/vg-a/home /home xfs\n/dev/vg-a/swap none swap\n",
			want: "vg-a/root ext4 /, vg-a/home xfs /home, sda2 vfat /boot/efi, sda3 ext4 /boot, vg-a/swap swap"},
		"split off": {fstab: "UUID=a / jfs\n", want: "vg-a/root jfs /, vg-a/home xfs /home, sda2 vfat /boot/efi, sda3 ext4 /boot, vg-a/swap swap"},
		"changed":   {fstab: "UUID=a / ext4\nUUID=c /home ext4\n", want: "vg-a/root ext4 /, vg-a/home xfs /home, sda2 vfat /boot/efi, sda3 ext4 /boot, vg-a/swap swap"},
		"by device alone": {fstab: "/dev/mapper/vg--a-r / ext4\n/dev/md/0 /boot ext3\n/dev/mapper/c /srv ext4\n",
			yaml: "disks:\n  sda:\n    partitions:\n      - raid 100M\n      - lvm 5G\n      - luks fill\n  sdb: {like: sda}\nraid:\n  md0: {level: 1, of: [sda1, sdb1]}\nluks:\n  c: {of: sdb3}\nlvm:\n  vg-a: {of: [sda2, sdb2], volumes: {r: 4G}}\n",
			want: "vg-a/r ext4 /, mapper/c ext4 /srv, md0 ext3 /boot"},
		"nobody can guess": {fstab: "UUID=a / ext4\nUUID=b /srv ext4\n", yaml: lvmYAML, err: "/srv (ext4): the layout doesn't say where it lies"},
		"no such volume":   {fstab: "/dev/mapper/vg--b-root /srv ext4\n", err: "etc/fstab:1: /dev/mapper/vg--b-root: no array, container or volume of the layout is called vg-b/root"},
		"whole disk":       {fstab: "/dev/sda1 / ext4\nUUID=b /srv xfs\n", yaml: "disks:\n  sda:\n    table: mbr\n    partitions: [linux fill]\n  sdb: {table: none, fs: xfs, mount: /srv}\n", want: "sda1 ext4 /, sdb xfs /srv"},
		"bad":              {fstab: "-", yaml: "disks:\n  sda: {partitions: [linux fill], colour: red}\n", err: `layout.yaml:2`},
		"one place twice":  {fstab: "-", yaml: strings.Replace(lvmYAML, "mount: /home", "mount: /boot", 1), err: "layout.yaml:"},
		"made of itself":   {fstab: "-", yaml: "disks:\n  sda: {partitions: [linux fill]}\nlvm:\n  v: {of: mapper/c, volumes: {r: 1G}}\nluks:\n  c: {of: v/r}\n", err: "layout.yaml:"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.yaml == "" {
				c.yaml = lvmYAML
			}
			opt := Options{Root: folder(t, c.fstab), Layout: yamlFile(t, c.yaml)}
			if strings.Contains(c.yaml, "luks:") {
				opt.Passphrases = []string{descs(t, "secret\n")["sda"]}
			}
			m, err := Describe(t.Context(), opt)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := where(m); got != c.want {
				t.Errorf("got %s\nwant %s\n%s", got, c.want, strings.Join(m.Notes, "\n"))
			}
			for _, fs := range m.Plan.Filesystems {
				if fs.MountPoint == "/home" && (fs.Label != "people" || fs.Options != "" || strings.Contains(c.fstab, "UUID=c") && fs.OldUUID != "c") {
					t.Errorf("/home: %+v", fs)
				}
			}
			if strings.HasPrefix(c.yaml, lvmYAML) && m.Plan.Disks[0].Match.MinBytes != 10<<30 {
				t.Errorf("hint %+v", m.Plan.Disks[0].Match)
			}
		})
	}
}

// TestLayoutFileOfOneDisk: -p sda layout.yaml, beside a desc for another.
func TestLayoutFileOfOneDisk(t *testing.T) {
	root := folder(t, "/dev/vg-a/root / ext4\n/dev/sdb1 /srv ext4\nUUID=x /boot ext4\n")
	opt := Options{Root: root, Descs: map[string]string{"sda": yamlFile(t, lvmYAML), "sdb": descs(t, "linux fill\n")["sda"]}}
	m, err := Describe(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if got := where(m); got != "vg-a/root ext4 /, vg-a/home xfs /home, sda2 vfat /boot/efi, sda3 ext4 /boot, sdb1 ext4 /srv, vg-a/swap swap" {
		t.Errorf("got %s", got)
	}
	opt.Descs["sdc"] = opt.Descs["sda"]
	if _, err := Describe(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "want a layout file with disk sdc alone") {
		t.Errorf("got %v", err)
	}
	opt = Options{Root: root, Layout: yamlFile(t, lvmYAML), SkipDisks: []string{"sda"}}
	if _, err := Describe(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "left out (-X)") {
		t.Errorf("got %v", err)
	}
}

// TestLayoutFileMakesSubvolumes: what has file systems of its own on golden
// may be subvolumes on the clones.
func TestLayoutFileMakesSubvolumes(t *testing.T) {
	yaml := "disks:\n  sda:\n    partitions:\n      - {type: linux, size: fill, fs: btrfs, subvolumes: {\"@\": /, \"@home\": /home}}\n"
	m, err := Describe(t.Context(), Options{Root: folder(t, "UUID=a / ext4\nUUID=b /home ext4\n"), Layout: yamlFile(t, yaml)})
	if err != nil {
		t.Fatal(err)
	}
	if got := where(m); got != "sda1 btrfs /" || subs(m) != "@ / m, @home /home m" || m.Plan.Filesystems[0].OldUUID != "a" {
		t.Errorf("got %s; %s; %+v", got, subs(m), m.Plan.Filesystems)
	}
}

// TestLayoutFileTakesSubvolumeOut: of a btrfs that stays one; and of one that
// becomes something else, which is another matter.
func TestLayoutFileTakesSubvolumeOut(t *testing.T) {
	root := folder(t, "UUID=a / btrfs subvol=@\nUUID=a /home btrfs subvol=@home\n")
	yaml := "disks:\n  sda:\n    partitions:\n      - {type: linux, size: 5G, fs: btrfs, mount: /}\n      - {type: linux, size: fill, fs: btrfs, mount: /home}\n"
	if _, err := Describe(t.Context(), Options{Root: root, Layout: yamlFile(t, yaml)}); err == nil || !strings.Contains(err.Error(), "/home: two file systems of the layout would be mounted there") {
		t.Errorf("got %v", err)
	}
	m, err := Describe(t.Context(), Options{Root: root, Layout: yamlFile(t, strings.ReplaceAll(yaml, "btrfs", "ext4"))})
	if err != nil {
		t.Fatal(err)
	}
	if got := where(m); got != "sda1 ext4 /, sda2 ext4 /home" || subs(m) != "" {
		t.Errorf("got %s; %s", got, subs(m))
	}
}

// TestLayoutFileChangesType: what was of the old type goes with it.
func TestLayoutFileChangesType(t *testing.T) {
	yaml := "disks:\n  sda:\n    partitions:\n      - {type: linux, size: fill, fs: xfs, mount: /}\n"
	for label, want := range map[string]string{"short": "short", "longer-than-xfs": ""} {
		m, err := Describe(t.Context(), Options{Root: folder(t, "LABEL="+label+" / ext4\n"), Layout: yamlFile(t, yaml)})
		if err != nil {
			t.Fatal(err)
		}
		if fs := m.Plan.Filesystems[0]; fs.Type != "xfs" || fs.Label != want {
			t.Errorf("%s: %+v", label, fs)
		}
	}
}

// TestTable: --table changes the numbers of partitions, and what lies there
// goes with them.
func TestTable(t *testing.T) {
	yaml := "disks:\n  sda:\n    partitions:\n      - bios 1M\n      - {type: linux, size: 1G, mount: /boot}\n      - {type: linux, size: 1G, mount: /srv}\n      - swap 1G\n      - {type: lvm, size: 5G}\n      - {type: linux, size: 1G, mount: /opt}\nlvm:\n  v: {of: sda5, volumes: {r: {size: 4G, mount: /}}}\n"
	root := folder(t, "/dev/v/r / ext4\n/dev/sda2 /boot ext4\n/dev/sda3 /srv ext4\n/dev/sda6 /opt ext4\n/dev/sda4 none swap\n")
	opt := Options{Root: root, Layout: yamlFile(t, yaml), Table: layout.MBR}
	m, err := Describe(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if got := where(m); got != "v/r ext4 /, sda1 ext4 /boot, sda2 ext4 /srv, sda6 ext4 /opt, sda3 swap" || m.Plan.Stack.Groups[0].Devices[0] != "sda5" || m.Plan.Disks[0].Layout.Table != layout.MBR {
		t.Errorf("got %s, %+v, %+v", got, m.Plan.Stack, m.Plan.Disks)
	}
	if fs := m.Plan.Filesystems[1]; fs.OldDevice != "/dev/sda2" {
		t.Errorf("/boot was %s", fs.OldDevice)
	}
	opt.Blocks, opt.Layout = []string{"sda3"}, yamlFile(t, strings.Replace(yaml, ", mount: /srv", "", 1))
	if _, err := Describe(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "-D sda3: the partition becomes sda2") {
		t.Errorf("got %v", err)
	}
	m, err = Describe(t.Context(), Options{Root: folder(t, "/dev/sda6 / ext4\n"), Descs: descs(t, manual), Table: layout.GPT, Loader: wire.Loader{Kind: "none"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := where(m); got != "sda6 ext4 /, sda5 swap" || m.Plan.Disks[0].Layout.Table != layout.GPT {
		t.Errorf("an MBR as a GPT: %s, %+v", got, m.Plan.Disks)
	}
}
