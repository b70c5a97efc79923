package fixup

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"strings"
	"testing"
)

// image is an EFI program of such sections, name and contents in turn, as
// debug/pe and a firmware read it.
func image(t testing.TB, sections ...string) string {
	t.Helper()
	const align = 512
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	dos := make([]byte, 64)
	dos[0], dos[1], dos[0x3c] = 'M', 'Z', 64
	b.Write(dos)
	b.WriteString("PE\x00\x00")
	put(pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(sections) / 2)})
	at := uint32(align * (1 + len(sections)*40/align))
	var body bytes.Buffer
	for i := 0; i+1 < len(sections); i += 2 {
		h := pe.SectionHeader32{SizeOfRawData: uint32(len(sections[i+1])), VirtualSize: uint32(len(sections[i+1])), PointerToRawData: at + uint32(body.Len())}
		copy(h.Name[:], sections[i])
		put(h)
		body.WriteString(sections[i+1])
	}
	b.Write(make([]byte, int(at)-b.Len()))
	return b.String() + body.String()
}

// TestUKI: an image whose command line is golden's is no boot entry.
func TestUKI(t *testing.T) {
	const at = "boot/efi/EFI/Linux/x.efi"
	for name, tt := range map[string]struct{ image, want string }{
		"golden's root":     {image(t, ".linux", "k", ".cmdline", "ro root=UUID="+rootWas+"\x00"), "x.efi doesn't name the root"},
		"in a profile":      {image(t, ".cmdline", "root=UUID="+rootNow, ".profile", "ID=x", ".cmdline", "root=/dev/sdq1"), "x.efi doesn't name the root"},
		"the clone's":       {image(t, ".cmdline", "root=UUID="+rootNow+" ro\x00"), ""},
		"no root":           {image(t, ".linux", "k", ".cmdline", "quiet\x00"), ""},
		"no command line":   {image(t, ".linux", "k"), ""},
		"no image":          {"nonsense", "read kernel image"},
		"an impossible one": {image(t, ".cmdline", strings.Repeat("x", maxCmdline+1)), "a command line of"},
	} {
		c := uefiClone(t, map[string]string{at: tt.image}, nil)
		err := c.checkEntries()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestGoldensInitrd: where nothing makes initrds, golden's must not stay on a
// clone whose root it can't find.
func TestGoldensInitrd(t *testing.T) {
	files := map[string]string{"boot/vmlinuz-6.1": "", "boot/initrd.img-6.1": "golden's", "lib/modules/6.1/": ""}
	c := newTestClone(t, t.TempDir(), files, nil)
	var rep StepReport
	if err := fixInitrd(t.Context(), c, &rep); err != nil || len(rep.Warnings) != 1 {
		t.Errorf("on a partition: %v, %q", err, rep.Warnings)
	}
	f := rhel9()
	c = newTestClone(t, t.TempDir(), files, func(e *Env) { e.Plan, e.Disks = f.plan, f.made })
	if err := fixInitrd(t.Context(), c, &StepReport{}); err == nil || !strings.Contains(err.Error(), "/boot/initrd.img-6.1 is golden's, and the root is on rhel/root") {
		t.Errorf("on LVM in LUKS: %v", err)
	}
}
