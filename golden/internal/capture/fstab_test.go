package capture

import (
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"

	"github.com/google/go-cmp/cmp"
)

func TestParseFstab(t *testing.T) {
	const text = `# /etc/fstab
  # indented comment

UUID="1234-abcd"	/	ext4	errors=remount-ro,noatime	0	1
LABEL=my\040disk /mnt/with\040blank\011tab ext3 # no options, but a comment
/dev/sda5 none swap sw 0 0 extra words
/dev/sd\ /x\99 ext4
proc /proc proc`
	got, err := parseFstab(strings.NewReader(text), "fstab")
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{4, "UUID=1234-abcd", "/", "ext4", []string{"errors=remount-ro", "noatime"}},
		{5, "LABEL=my disk", "/mnt/with blank\ttab", "ext3", []string{"#"}},
		{6, "/dev/sda5", "none", "swap", []string{"sw"}},
		{7, `/dev/sd\`, `/x\99`, "ext4", nil},
		{8, "proc", "/proc", "proc", nil},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"/dev/sda1 /\n":                 `fstab:1: "/"`,
		"\n\n/dev/sda1":                 `fstab:3: "/dev/sda1"`,
		"/dev/sda1 /\\000 ext4":         "fstab:1:",
		strings.Repeat("x", 100_000):    "fstab: ",
		strings.Repeat("#\n", 1_000000): "fstab: larger",
	} {
		if _, err := parseFstab(strings.NewReader(text), "fstab"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

func TestSplitPartition(t *testing.T) {
	for name, want := range map[string]string{
		"sda1": "sda", "vda12": "vda", "hda3": "hda", "xvda1": "xvda", "sdaa7": "sdaa", "nvme0n1p2": "nvme0n1", "mmcblk0p1": "mmcblk0",
		"loop3p1": "loop3", "cciss/c0d0p5": "cciss/c0d0", "sda": "", "nvme0n1": "", "sr0": "", "tmpfs": "", "mapper/vg-root": "", "": "", "sda99999999999": "",
	} {
		if got, n := layout.SplitPartition(name); got != want || (n == 0) != (want == "") {
			t.Errorf("%s: %s, %d, want %s", name, got, n, want)
		}
	}
}

func FuzzFstab(f *testing.F) {
	f.Add("UUID=1 / ext4 defaults 0 1\n/dev/sda5 none swap sw")
	f.Add("a\\040b /\\134 ext2 bind")
	f.Add("LABEL='x /x x\n#\n\\")
	f.Fuzz(func(t *testing.T, s string) {
		entries, err := parseFstab(strings.NewReader(s), "fuzz")
		if err != nil && !strings.HasPrefix(err.Error(), "fuzz:") {
			t.Fatalf("error names no file: %v", err)
		}
		for _, e := range entries {
			if e.line < 1 || e.line > strings.Count(s, "\n")+1 || strings.ContainsRune(e.file, 0) {
				t.Fatalf("%q: %+v", s, e)
			}
			_ = e.why()
			layout.SplitPartition(strings.TrimPrefix(e.spec, "/dev/"))
		}
	})
}
