package templates

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

// TestLabels: stage 1 understands what each label says, and it is what the
// manual means by it.
func TestLabels(t *testing.T) {
	for _, label := range Labels() {
		line := strings.Join(LabelWords(label, "10.0.1.253", "/cs4"), " ")
		p, errs := wire.ParseCmdline(line)
		if len(errs) > 0 {
			t.Errorf("%s: %v in %q", label, errs, line)
		}
		switch method := map[string]string{LabelLocal: "", LabelKAMethod: "ka", LabelDiskless: "ka"}[label]; {
		case label == LabelLocal:
			if line != "" {
				t.Errorf("local loads something: %q", line)
			}
		case method == "" && p.Method != label || method != "" && p.Method != method:
			t.Errorf("%s: method %q", label, p.Method)
		case p.Interface != "auto" || p.Network != "dhcp":
			t.Errorf("%s: %+v", label, p)
		}
		if p.KaMethod != (label == LabelKAMethod) || p.DollyMethod != (label == "dolly") || NeedsServer(label) != (p.Server == "10.0.1.253" && p.Directory == "/cs4") {
			t.Errorf("%s: %+v", label, p)
		}
		if p.Rescue != (label != LabelLocal && label != LabelKAMethod && label != LabelDiskless) || (p.KaRun == wire.RunRAM) != (label == LabelDiskless) {
			t.Errorf("%s: rescue is %v, run %q", label, p.Rescue, p.KaRun)
		}
	}
	if got := LabelWords("http", "", ""); got[0] != "automatic=method:http,interface:auto,network:dhcp" {
		t.Errorf("without a server: %q", got)
	}
}

func TestOwnWords(t *testing.T) {
	n := Netboot{Image: true, Kernel: "k", Initrd: "i", Label: "dolly", Boot: LabelWords("dolly", "", ""), NodeID: 7, Words: []string{"ka.server=10.0.0.1"}}
	b, err := n.PXELINUXConfig()
	want := "APPEND automatic=method:dolly,dolly_timeout:100,interface:auto,network:dhcp rw rescue dollymethod node_id=7 ka.server=10.0.0.1\n"
	if err != nil || !strings.Contains(string(b), "DEFAULT dolly\n") || !strings.Contains(string(b), "LABEL dolly\n") || !strings.Contains(string(b), want) {
		t.Errorf("%v\n%s\nwant %s", err, b, want)
	}
	for range 2 { // the words aren't written into the label's
		if got := n.KernelWords(); len(got) != 6 || len(n.Boot) != 4 {
			t.Errorf("%q of %q", got, n.Boot)
		}
	}
}

// TestBootPrompt: the tree of make image has all labels, with the words that
// they have everywhere, and its texts fit on a screen of 80 by 25.
func TestBootPrompt(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		b, err := fs.ReadFile(Image(), "tftp/"+name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	menu := read("pxelinux.cfg/default")
	for _, label := range Labels() {
		_, line, ok := strings.Cut(menu, "\nlabel "+label+"\n")
		line, _, _ = strings.Cut(line, "\n\n")
		want := "initrd=images/all.rdz " + strings.Join(LabelWords(label, "", ""), " ") + " mitigations=off console="
		if Lasts(label) {
			want = strings.Replace(want, " mitigations=off", "", 1)
		}
		if label == LabelLocal {
			want = "LOCALBOOT 0"
		}
		if !ok || !strings.Contains(line, want) {
			t.Errorf("label %s: no %q in\n%s", label, want, line)
		}
		for _, name := range []string{"messages", "help.txt"} {
			if !strings.Contains(read(name), "  "+label) && !strings.Contains(read(name), ", "+label) {
				t.Errorf("%s doesn't say what %s is", name, label)
			}
		}
	}
	for _, name := range []string{"messages", "help.txt"} {
		lines := strings.Split(read(name), "\n")
		if len(lines) > 24 {
			t.Errorf("%s has %d lines", name, len(lines))
		}
		for _, l := range lines {
			if len(l) > 79 {
				t.Errorf("%s: a line of %d characters: %s", name, len(l), l)
			}
		}
	}
}
