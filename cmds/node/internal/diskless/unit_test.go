package diskless

import (
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/cmds/node/internal/nic"
	"github.com/kamethod/kamethod/golden/wire"
)

func TestFits(t *testing.T) {
	for _, tt := range []struct {
		name    string
		streams []wire.Stream
		free    int64
		want    string
	}{
		{"an image that fits", []wire.Stream{{Kind: wire.ImageStream, Bytes: 100 << 20}}, 256 << 20, ""},
		{"one that doesn't", []wire.Stream{{Kind: wire.ImageStream, Bytes: 300 << 20}}, 256 << 20, "needs 300 MiB there, and it has room for 176 MiB"},
		{"many small files", []wire.Stream{{Kind: wire.ManifestStream, Bytes: 6 << 20}, {Kind: wire.ContentsStream, Bytes: 1 << 20}}, 256 << 20, "needs 193 MiB"},
		{"hardly any memory", []wire.Stream{{Kind: wire.ImageStream, Bytes: 1}}, 16 << 20, "room for 0 MiB"},
		{"a negative size", []wire.Stream{{Kind: wire.ImageStream, Bytes: -1}}, 1 << 30, "announces"},
		{"an endless one", []wire.Stream{{Kind: wire.ManifestStream, Bytes: 1 << 62}}, 1 << 30, "announces"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := fits(tt.streams, tt.free)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestFree(t *testing.T) {
	name := filepath.Join(t.TempDir(), "meminfo")
	for text, want := range map[string]int64{
		"MemTotal: 1000 kB\nMemAvailable:     512 kB\n": 512 << 10,
		"MemTotal: 1000 kB\n":                           -1,
		"MemAvailable: much\n":                          -1,
		"MemAvailable: -5 kB\n":                         -1,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := free(name); err == nil && got != want || (err != nil) != (want < 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	if n, err := free("/proc/meminfo"); err != nil || n < 1<<20 {
		t.Errorf("of this machine: %d, %v", n, err)
	}
}

func TestWithoutDisks(t *testing.T) {
	const table = `# device	mount point
/dev/sda1	/	ext4	defaults 0 1
UUID=1234-abcd	/home	xfs	defaults 0 2
"LABEL=data"	/data	ext4	defaults 0 2
PARTUUID=77	none	swap	sw 0 0
//server/share	/mnt/s	cifs	defaults 0 0
tmpfs	/tmp	tmpfs	size=50%	0 0
golden:/home	/srv	nfs	defaults 0 0
none	/mnt/kerfs	kerfs	noauto,defaults,user 0 0
overlay	/	overlay	ro 0 0

junk
`
	kept, left := withoutDisks(table, false)
	// A share of Windows machines looks like a device, and is lost: it can be
	// given with --render.
	if len(left) != 6 || left[0] != "/dev/sda1 / ext4 defaults 0 1" {
		t.Errorf("left out: %q", left)
	}
	for _, want := range []string{"\ntmpfs\t/tmp", "\ngolden:/home", "\nnone\t/mnt/kerfs", "\njunk", "# device", "\n# diskless: /dev/sda1"} {
		if !strings.Contains(kept, want) {
			t.Errorf("%q is missing in\n%s", want, kept)
		}
	}
	again, left := withoutDisks(kept, false)
	if again != kept || len(left) > 0 {
		t.Errorf("a second time: %q\n%s", left, again)
	}
	if _, left := withoutDisks("root UUID=1 none luks\n# a\n", true); len(left) != 1 {
		t.Errorf("crypttab: %q", left)
	}
}

func TestKindOf(t *testing.T) {
	ext := make([]byte, 2048)
	binary.LittleEndian.PutUint16(ext[1080:], 0xef53)
	for _, tt := range []struct {
		head []byte
		want string
	}{
		{[]byte("hsqs\x00\x00"), "squashfs"}, {ext, "ext4"}, {ext[:1081], ""}, {make([]byte, 2048), ""}, {nil, ""},
		{[]byte("\x1f\x8b\x08"), ""}, {[]byte("sqsh"), ""}, // the other byte order: no kernel of today reads it
	} {
		if got, ok := kindOf(tt.head); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q…: %q, %v", tt.head[:min(8, len(tt.head))], got, ok)
		}
	}
}

func swapHeader(size int) []byte {
	b := make([]byte, size)
	b[1024] = 1
	copy(b[size-10:], "SWAPSPACE2")
	return b
}

func TestIsSwapHeader(t *testing.T) {
	good := swapHeader(4096)
	if !isSwapHeader(good) {
		t.Error("a swap area isn't known")
	}
	asleep := swapHeader(4096)
	copy(asleep[4096-10:], "S1SUSPEND\x00")
	second := swapHeader(4096)
	second[1024] = 2
	for name, b := range map[string][]byte{"a machine asleep": asleep, "a newer version": second, "zeros": make([]byte, 4096), "short": []byte("SWAPSPACE2"), "none": nil} {
		if isSwapHeader(b) {
			t.Errorf("%s is taken for a swap area", name)
		}
	}
}

// A part of a RAID that isn't assembled is none, though its first page is one's.
// mdadm tells that the test puts the superblocks where it looks for them.
func TestIsSwapOfRAID(t *testing.T) {
	const magic = 0xa92b4efc
	page := os.Getpagesize()
	mdadm, _ := exec.LookPath("mdadm")
	for _, size := range []int64{5 << 20, 5<<20 + 12345*512} {
		for version, at := range map[string]int64{"0.90": size/65536*65536 - 65536, "1.0": (size - 8192) / 4096 * 4096, "1.1": 0, "1.2": 4096, "": 0} {
			sb := make([]byte, 4096)
			switch version {
			case "":
			case "0.90":
				binary.NativeEndian.PutUint32(sb, magic)
				binary.NativeEndian.PutUint32(sb[8:], 90)
			default:
				binary.LittleEndian.PutUint32(sb, magic)
				binary.LittleEndian.PutUint32(sb[4:], 1)
				binary.LittleEndian.PutUint64(sb[144:], uint64(at/512)) // super_offset
			}
			disk := make([]byte, size)
			copy(disk[at:], sb)
			head := swapHeader(page)
			copy(disk[1024:page], head[1024:]) // behind a superblock of 1.1
			path := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(path, disk, 0o600); err != nil {
				t.Fatal(err)
			}
			yes, err := isSwap(path)
			if yes != (version == "") || version != "" && (err == nil || !strings.Contains(err.Error(), "part of a RAID")) {
				t.Errorf("%d bytes, metadata %q: swap %v, %v", size, version, yes, err)
			}
			if version == "" || mdadm == "" {
				continue
			}
			if out, err := exec.Command(mdadm, "--examine", path).CombinedOutput(); err != nil || !strings.Contains(string(out), "Version : "+version) {
				t.Errorf("%d bytes, metadata %q: mdadm: %v\n%s", size, version, err, out)
			}
		}
	}
}

// Only what is on a disk is looked at, and nothing that is a part of an array.
func TestSwapOn(t *testing.T) {
	top := t.TempDir()
	sys, dev := filepath.Join(top, "class"), filepath.Join(top, "dev")
	dir := func(p ...string) {
		if err := os.MkdirAll(filepath.Join(p...), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir(sys)
	dir(dev)
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dev, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	disk := func(name string, parts ...string) {
		dir(top, "devices", name, "device")
		for _, p := range append(parts, "") {
			at := filepath.Join(top, "devices", name, p)
			dir(at)
			if p != "" {
				if err := os.WriteFile(filepath.Join(at, "partition"), []byte("1"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			link := name
			if p != "" {
				link = p
			}
			if err := os.Symlink(at, filepath.Join(sys, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	page := os.Getpagesize()
	disk("vda", "vda1", "vda2", "vda3")
	disk("vdb")
	dir(top, "devices/vda/vda3/holders/md0")
	disk("vdc", "vdc1") // the whole disk is half of a mirror, metadata 1.0
	put("vdc1", swapHeader(page))
	mirror := make([]byte, 1<<20)
	copy(mirror[len(mirror)-8192:], "\xfc\x4e\x2b\xa9")
	put("vdc", mirror)
	dir(top, "devices/ram0") // no device below it
	if err := os.Symlink(filepath.Join(top, "devices/ram0"), filepath.Join(sys, "ram0")); err != nil {
		t.Fatal(err)
	}
	put("vda", make([]byte, page))
	put("vda1", make([]byte, page))
	put("vda2", swapHeader(page))
	put("vda3", swapHeader(page))
	put("vdb", swapHeader(page))
	put("ram0", swapHeader(page))
	var asked []string
	got, err := swapOn(sys, dev, func(p string) error { asked = append(asked, filepath.Base(p)); return nil }, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(asked, " ") != "vda2 vdb" || len(got) != 2 {
		t.Errorf("used %q", asked)
	}
}

func self() Self {
	return Self{
		Run:   wire.Run{Hostname: "node31", NodeID: 31},
		Lease: &nic.Lease{Interface: "eth0", MAC: "52:54:00:00:00:31", Addr: netip.MustParsePrefix("10.0.1.31/24")},
	}
}

func TestNetworkFiles(t *testing.T) {
	s := self()
	if got := s.networkd(); !strings.Contains(got, "MACAddress=52:54:00:00:00:31\n") || !strings.Contains(got, "DHCP=ipv4\nKeepConfiguration=yes\n") {
		t.Errorf("by DHCP:\n%s", got)
	}
	if got := s.interfaces(true); !strings.Contains(got, "iface eth0 inet dhcp\n") {
		t.Errorf("by DHCP:\n%s", got)
	}
	if got := s.interfaces(false); !strings.Contains(got, "iface eth0 inet manual\n") {
		t.Errorf("without a DHCP client:\n%s", got)
	}
	s.Networks = []wire.Network{{MAC: "52:54:00:00:00:31", Addresses: []string{"10.0.1.31/24", "10.9.0.1/8"}, Gateway: "10.0.1.254", DNS: []string{"10.0.1.1"}}}
	if got := s.networkd(); strings.Contains(got, "DHCP=") || !strings.Contains(got, "Address=10.0.1.31/24\nAddress=10.9.0.1/8\nGateway=10.0.1.254\nDNS=10.0.1.1\n") {
		t.Errorf("fixed:\n%s", got)
	}
	if got := s.interfaces(true); !strings.Contains(got, "inet static\n\taddress 10.0.1.31/24\n\tgateway 10.0.1.254\n") {
		t.Errorf("fixed:\n%s", got)
	}
	s.Networks[0].MAC = "52:54:00:00:00:99"
	if got := s.networkd(); !strings.Contains(got, "DHCP=ipv4\n") {
		t.Errorf("another card's address:\n%s", got)
	}
}

func FuzzWithoutDisks(f *testing.F) {
	f.Add("/dev/sda1 / ext4 defaults 0 1\n")
	f.Add("UUID=1 /a\n# x\ntmpfs /tmp tmpfs\n")
	f.Fuzz(func(t *testing.T, text string) {
		kept, _ := withoutDisks(text, false)
		for line := range strings.Lines(kept) {
			if w := strings.Fields(line); len(w) > 1 && strings.HasPrefix(w[0], "/") {
				t.Errorf("%q keeps %q", text, line)
			}
		}
		if again, left := withoutDisks(kept, false); again != kept || len(left) > 0 {
			t.Errorf("%q is not done with the first time", text)
		}
	})
}

func FuzzImage(f *testing.F) {
	f.Add([]byte("hsqs"))
	f.Add(swapHeader(4096))
	f.Fuzz(func(t *testing.T, b []byte) {
		if kind, ok := kindOf(b); ok != (kind != "") {
			t.Error(kind, ok)
		}
		isSwapHeader(b)
	})
}
