package compare

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFAT reads an EFI system partition out of a disk image, and says so when
// a file in it isn't golden's, or the FAT is damaged.
func TestFAT(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts")
	}
	for _, p := range []string{"mkfs.ext4", "mkfs.vfat", "mcopy", "sfdisk"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	golden := write(t, map[string]string{
		"boot/efi/EFI/golden/größe und mehr.txt": "not ASCII", "boot/efi/EFI/golden/empty": "",
		"boot/efi/" + strings.Repeat("long ", 30) + "x": "long", "boot/efi/STARTUP.NSH": "fs0:",
	})
	image := filepath.Join(t.TempDir(), "disk.img")
	sh := func(args ...string) {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	root := write(t, map[string]string{"boot/efi/below": "hidden by the mount"})
	sh("truncate", "-s", "160M", image)
	sh("sh", "-c", `printf 'label: gpt\nsize=40MiB, type=U\nsize=100MiB, type=L\n' | sfdisk -q "$0"`, image)
	sh("mkfs.vfat", "--offset", "2048", image, "40960")
	sh("mkfs.ext4", "-q", "-F", "-d", root, "-E", "offset=42991616", image, "100M") // sector 83968: right behind
	sh("sh", "-c", `mcopy -s -i "$0@@1048576" "$1"/boot/efi/* ::`, image, golden)

	compareNow := func() *Report {
		t.Helper()
		parts, err := Table(t.Context(), image)
		if err != nil {
			t.Fatal(err)
		}
		g, err := Scan(filepath.Join(golden, "boot"))
		if err != nil {
			t.Fatal(err)
		}
		var r *Report
		err = Assembled(t.Context(), image, parts, map[int]string{1: "/boot/efi", 2: "/"}, func(at string) error {
			c, err := Scan(filepath.Join(at, "boot"))
			if err == nil {
				r = Trees(g, c, append(FATRules("/efi"), Rule{Path: "/", Reason: "made by this test"}))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := Fsck(t.Context(), image, parts[0]); err != nil {
			t.Error(err)
		}
		return r
	}
	if r := compareNow(); len(r.Differences) > 0 || r.Entries != 8 {
		t.Errorf("%d entries, different: %v", r.Entries, r.Differences)
	}
	sh("mdel", "-i", image+"@@1048576", "::STARTUP.NSH")
	sh("sh", "-c", `echo other | mcopy -o -i "$0@@1048576" - ::EFI/golden/empty`, image)
	got := map[string]Aspect{}
	for _, d := range compareNow().Differences {
		got[d.Path] = d.Aspect
	}
	if got["/efi/STARTUP.NSH"] != Missing || got["/efi/EFI/golden/empty"] != Content || len(got) != 2 {
		t.Errorf("different: %v", got)
	}
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 64<<10), 1<<20+4096); err != nil { // in the FATs
		t.Fatal(err)
	}
	parts, err := Table(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	if err := Fsck(t.Context(), image, parts[0]); err == nil {
		t.Error("a damaged FAT passes for a whole one")
	}
}
