package templates

import (
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
		switch method := map[string]string{LabelLocal: "", LabelKAMethod: "ka"}[label]; {
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
		if p.Rescue != (label != LabelLocal && label != LabelKAMethod) {
			t.Errorf("%s: rescue is %v", label, p.Rescue)
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
