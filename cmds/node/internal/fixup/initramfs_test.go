package fixup

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// packed is what a program makes of its input.
func packed(t testing.TB, in []byte, program string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no %s here: %v", program, err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(in)
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", program, args, err, msg.Bytes())
	}
	return out
}

// archive is a cpio archive of files, as the fields of the format have them.
func archive(files ...string) []byte {
	var b bytes.Buffer
	put := func(name, data string, mode int) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.WriteString(data)
		b.Write(make([]byte, -b.Len()&3))
	}
	for i := 0; i+1 < len(files); i += 2 {
		put(files[i], files[i+1], 0o100644)
	}
	put("TRAILER!!!", "", 0)
	b.Write(make([]byte, -b.Len()&511))
	return b.Bytes()
}

func members(t testing.TB, b []byte) (map[string]string, error) {
	t.Helper()
	got := map[string]string{}
	err := walkInitramfs(bytes.NewReader(b), func(m member) error {
		got[m.name] = string(m.data)
		return nil
	})
	return got, err
}

// TestWalkInitramfs has every compression that distributions use, made by the
// programs that they use, behind a segment of microcode.
func TestWalkInitramfs(t *testing.T) {
	early := archive("kernel/x86/microcode/GenuineIntel.bin", "micro")
	main := archive("etc/hostname", "golden\n", "bin/large", strings.Repeat("x", maxScanned+1), "empty", "")
	want := map[string]string{"etc/hostname": "golden\n", "bin/large": "", "empty": ""}
	for _, tt := range []struct {
		program string
		args    []string
	}{
		{"cat", nil}, {"gzip", []string{"-9"}}, {"bzip2", nil}, {"xz", []string{"--check=crc32"}}, {"xz", []string{"--format=lzma"}},
		{"zstd", []string{"-19", "-q"}}, {"zstd", []string{"-q", "--ultra", "-22"}}, {"lz4", []string{"-l", "-9"}}, {"lz4", []string{"-9"}},
	} {
		t.Run(tt.program+" "+strings.Join(tt.args, " "), func(t *testing.T) {
			z := packed(t, main, tt.program, tt.args...)
			for _, tail := range []int{0, 4096} {
				got, err := members(t, append(bytes.Clone(z), make([]byte, tail)...))
				if d := cmp.Diff(want, got); err != nil || d != "" {
					t.Errorf("%d zeros behind: %v (-want +got)\n%s", tail, err, d)
				}
			}
			got, err := members(t, append(append(bytes.Clone(early), make([]byte, 512)...), z...))
			if err != nil || len(got) != 4 || got["etc/hostname"] != "golden\n" {
				t.Errorf("behind microcode: %v, %q", err, got)
			}
		})
	}
}

// What cpio itself makes is read like what this test makes.
func TestWalkInitramfsOfCPIO(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, map[string]string{"etc/a": "one", "etc/l -> a": "", "etc/d/": ""})
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skipf("no cpio here: %v", err)
	}
	cmd := exec.Command("cpio", "--quiet", "-o", "-H", "newc", "-D", dir)
	cmd.Stdin = strings.NewReader("etc\netc/a\netc/l\netc/d\n")
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := members(t, b)
	if d := cmp.Diff(map[string]string{"etc": "", "etc/a": "one", "etc/l": "", "etc/d": ""}, got); err != nil || d != "" {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
}

func TestWalkInitramfsRefuses(t *testing.T) {
	whole := archive("a", "b")
	huge := bytes.Replace(bytes.Clone(whole), []byte("00000002"), []byte("ffffffff"), 1) // the length of a name
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"nothing":      {nil, "EOF"},
		"zeros":        {make([]byte, 4096), "EOF"},
		"short":        {[]byte("0707"), "begin of an archive"},
		"ext2":         {bytes.Repeat([]byte{1}, 2048), "neither a cpio archive"},
		"cut":          {whole[:150], "EOF"},
		"a huge name":  {huge, "impossible name"},
		"no hex":       {bytes.Replace(whole, []byte("000081a4"), []byte("zzzzzzzz"), 1), "impossible"},
		"not a packed": {packed(t, []byte("hello there"), "gzip"), "no cpio archive"},
	} {
		if _, err := members(t, tt.b); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestLeftoversInInitrd: what an initrd has of golden is found, with its place
// in it, and one that can't be read is said to be so.
func TestLeftoversInInitrd(t *testing.T) {
	root := t.TempDir()
	plant(t, root, map[string]string{
		"boot/initrd.img-6.1":             string(archive("early", "")) + string(packed(t, archive("etc/fstab", "x\nUUID="+rootWas+"\n", "bin/x", "\x00"+idWas+"\x00golden", "lib/large.ko", strings.Repeat("x\x00", maxScanned)+rootWas, "etc/golden.conf", ""), "gzip")),
		"boot/initrd-old.img":             "nonsense",
		"boot/initrd.img-6.1.sha256":      "golden",
		"boot/grub/i386-pc/core.img":      "\x00\x01(" + strings.ToUpper(rootWas) + ")\x00golden\x00",
		"boot/pxe.cfg":                    "BOOTIF=01-" + strings.ReplaceAll(macWas, ":", "-") + "\n",
		"boot/efi/EFI/BOOT/grub.cfg":      "search.fs_uuid " + rootWas + "\n",
		"etc/udev/rules.d/my.rules":       "ATTR{address}==\"" + strings.ToUpper(macWas) + "\"\n",
		"etc/other":                       "52:54:00:aa:bb:01:02 0152:54:00:aa:bb:01 " + macNow + "\n",
		"boot/" + rootWas + "/6.1/initrd": "",
	})
	c := newTestClone(t, root, nil, func(e *Env) { e.Plan.Golden.MACs, e.MAC = []string{macWas, macNow}, macNow })
	var rep StepReport
	if err := findLeftovers(t.Context(), c, &rep); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/etc/udev/rules.d/my.rules:1: golden's network card " + macWas,
		"/boot/" + rootWas + ": name has golden's UUID " + rootWas,
		"/boot/efi/EFI/BOOT/grub.cfg:1: golden's UUID " + rootWas,
		"/boot/grub/i386-pc/core.img: golden's UUID " + rootWas,
		"/boot/initrd.img-6.1: etc/fstab:2: golden's UUID " + rootWas,
		"/boot/initrd.img-6.1: bin/x: golden's machine-id " + idWas,
		"/boot/initrd.img-6.1: lib/large.ko: golden's UUID " + rootWas,
		"/boot/initrd.img-6.1: etc/golden.conf: name has golden's host name golden",
		"/boot/initrd.img-6.1.sha256:1: golden's host name golden",
		"/boot/pxe.cfg:1: golden's network card " + strings.ReplaceAll(macWas, ":", "-"),
	}
	if d := cmp.Diff(want, c.report.Leftovers); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for _, w := range []string{"/boot/initrd-old.img was not looked through", "/6.1/initrd was not"} {
		if !strings.Contains(strings.Join(rep.Warnings, "\n"), w) {
			t.Errorf("no warning of %q in %q", w, rep.Warnings)
		}
	}
}

// FuzzWalkInitramfs: it ends, without an allocation that its input doesn't pay
// for, and shows no more of a file than is there.
func FuzzWalkInitramfs(f *testing.F) {
	main := archive("etc/hostname", "golden\n", "b", "\x00")
	f.Add(main)
	f.Add(append(archive("early", "x"), main...))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(main)
	_ = w.Close()
	f.Add(z.Bytes())
	f.Add([]byte{0x02, 0x21, 0x4c, 0x18, 4, 0, 0, 0, 0x30, 'a', 'b', 'c'})
	enough := errors.New("enough")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 6 && !isCPIO(b) && b[0] != 0x1f { // the libraries have fuzz targets of their own
			return
		}
		total := 0
		err := walkInitramfs(bytes.NewReader(b), func(m member) error {
			if total += len(m.data) + 1; total > 1<<24 {
				return enough
			}
			if len(m.data) > maxScanned || len(m.name) > maxPath {
				t.Fatalf("%d bytes of %d", len(m.data), len(m.name))
			}
			return nil
		})
		if err != nil && errors.Is(err, io.ErrNoProgress) {
			t.Fatal(err)
		}
	})
}
