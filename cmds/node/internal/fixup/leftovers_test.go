package fixup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLeftoversInLarge: what is too long to be read at once is looked through
// too, in bytes that are no letters of any kind as well; what isn't is said.
func TestLeftoversInLarge(t *testing.T) {
	root := t.TempDir()
	fill := strings.Repeat("\xff\x00\xfe\x01", maxBinary/4)
	uki := image(t, ".linux", fill, ".cmdline", "root=UUID="+strings.ToUpper(rootWas)+" golden\x00")
	plant(t, root, map[string]string{
		"boot/across":              fill[:maxBinary-20] + rootWas + fill[:100],
		"boot/at-the-end":          fill + fill + rootWas,
		"boot/core.img":            "\xc3\x28\x00\xff" + rootWas + "\x80golden",
		"boot/efi/EFI/Linux/x.EFI": uki,
		"boot/long.txt":            strings.Repeat("golden\n", maxScanned/7+1) + "x\n" + rootWas + "\n",
		"boot/none":                fill + rootWas[1:],
		"boot/huge":                "",
	})
	if err := os.Truncate(filepath.Join(root, "boot/huge"), maxLarge+1); err != nil {
		t.Fatal(err)
	}
	c := newTestClone(t, root, nil, nil)
	var rep StepReport
	if err := findLeftovers(t.Context(), c, &rep); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/boot/across: golden's UUID " + rootWas, "/boot/at-the-end: golden's UUID " + rootWas, "/boot/core.img: golden's UUID " + rootWas,
		"/boot/efi/EFI/Linux/x.EFI: golden's UUID " + rootWas, "/boot/long.txt:149799: golden's UUID " + rootWas,
	}
	if d := cmp.Diff(want, c.report.Leftovers); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if len(rep.Warnings) != 2 || !strings.Contains(rep.Warnings[0], "/boot/huge was not looked through") {
		t.Errorf("warnings %q", rep.Warnings)
	}
}
