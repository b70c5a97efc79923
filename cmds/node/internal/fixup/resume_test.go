package fixup

import (
	"strings"
	"testing"
)

func TestRewriteResume(t *testing.T) {
	for in, want := range map[string]string{
		"RESUME=/dev/sda5\n":                    "RESUME=UUID=" + swapNow + "\n",
		"RESUME=\"UUID=" + swapWas + "\" # x\n": "RESUME=UUID=" + swapNow + " # x\n",
		"export RESUME='LABEL=gone'":            "export RESUME=UUID=" + swapNow, // the only swap
		"RESUME=\nRESUME=none\nRESUME=auto\n":   "RESUME=\nRESUME=none\nRESUME=auto\n",
		"NORESUME=/dev/sda5\n":                  "NORESUME=/dev/sda5\n",
	} {
		if got := rewriteResume(in, testVolumes(t)); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	p, d := testPlan()
	p.Filesystems, d.Filesystems = p.Filesystems[:2], d.Filesystems[:2]
	vols, err := newVolumes(p, d)
	if err != nil {
		t.Fatal(err)
	}
	if got := rewriteResume("RESUME=UUID="+swapWas+"\n", vols); got != "RESUME=none\n" {
		t.Errorf("without a swap: %q", got)
	}
	if got, _ := rewriteCmdline("a resume=UUID="+swapWas+" b", vols); got != "a  b" {
		t.Errorf("without a swap: %q", got)
	}
}

func FuzzRewriteCmdline(f *testing.F) {
	f.Add("GRUB_CMDLINE_LINUX=\"console=ttyS0 resume=UUID=" + swapWas + " root=/dev/sda1\"\n# resume=x\n")
	f.Add("RESUME=/dev/sda5\nresume_offset=1 resume==resume= root=\"\" root=root=\r\n")
	f.Add("RESUME=sume=\"0")
	vols := testVolumes(f)
	f.Fuzz(func(t *testing.T, text string) {
		for name, rewrite := range map[string]func(string) string{
			"command line": func(s string) string { out, _ := rewriteCmdline(s, vols); return out },
			"resume":       func(s string) string { return rewriteResume(s, vols) },
			"uuids":        func(s string) string { return replaceIDs(s, vols.ids()) },
		} {
			got := rewrite(text)
			if a, b := strings.Count(text, "\n"), strings.Count(got, "\n"); a != b {
				t.Fatalf("%s: %d lines became %d", name, a, b)
			}
			if name != "command line" { // a word taken away may join two others
				if again := rewrite(got); again != got {
					t.Fatalf("%s: not the same the second time:\n%q\n%q", name, got, again)
				}
			}
		}
	})
}
