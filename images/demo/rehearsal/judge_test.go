package rehearsal

import (
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/demo/goldenroot"
)

const mib = 1 << 20

// cloned is a table as goldenroot.BIOS asks for it, on a disk of 3 GiB.
func cloned() []compare.Partition {
	return []compare.Partition{
		{Number: 1, Start: mib, Size: 1600 * mib, Type: "83", FSType: "ext4"},
		{Number: 2, Start: 1601 * mib, Size: 1471 * mib, Type: "5"},
		{Number: 5, Start: 1602 * mib, Size: 128 * mib, Type: "82", FSType: "swap"},
		{Number: 6, Start: 1731 * mib, Size: 1341 * mib, Type: "83", FSType: "ext4"},
	}
}

func TestCheckTable(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]compare.Partition) []compare.Partition
		want   string // in the problem; empty: none
	}{
		{"right", func(p []compare.Partition) []compare.Partition { return p }, ""},
		{"one too few", func(p []compare.Partition) []compare.Partition { return p[:3] }, "3 partitions"},
		{"not formatted", func(p []compare.Partition) []compare.Partition { p[3].FSType = ""; return p }, "partition 6 has type 83"},
		{"wrong type", func(p []compare.Partition) []compare.Partition { p[2].Type = "83"; return p }, "partition 5 has type 83"},
		{"too large", func(p []compare.Partition) []compare.Partition { p[0].Size = 1700 * mib; return p }, "partition 1 has 1700 MiB"},
		{"not filled", func(p []compare.Partition) []compare.Partition { p[3].Size = 100 * mib; return p }, "the last partition ends"},
		{"over the end", func(p []compare.Partition) []compare.Partition { p[3].Size = 1342 * mib; return p }, "the last partition ends"},
	} {
		j := &NodeResult{DiskSize: 3 << 30}
		j.checkTable(c.change(cloned()), goldenroot.BIOS())
		got := strings.Join(j.Problems, "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: problems %q, want %q", c.name, got, c.want)
		}
	}
}

// TestCheckUEFITable: where the last partition by number is not the last on
// the disk.
func TestCheckUEFITable(t *testing.T) {
	const linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	parts := func() []compare.Partition {
		return []compare.Partition{
			{Number: 1, Start: 2 * mib, Size: 100 * mib, Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", FSType: "vfat"},
			{Number: 2, Start: 102 * mib, Size: 1600 * mib, Type: linux, FSType: "ext4"},
			{Number: 3, Start: 1702 * mib, Size: 128 * mib, Type: "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", FSType: "swap"},
			{Number: 4, Start: 1830 * mib, Size: 1241 * mib, Type: linux, FSType: "ext4"},
			{Number: 5, Start: mib, Size: mib, Type: "21686148-6449-6E6F-744E-656564454649"},
		}
	}
	for want, change := range map[string]func([]compare.Partition){
		"":                            func([]compare.Partition) {},
		"partition 1 has type":        func(p []compare.Partition) { p[0].FSType = "ext4" },
		"the last partition ends":     func(p []compare.Partition) { p[3].Size = 100 * mib },
		"partition 5 has 2 MiB":       func(p []compare.Partition) { p[4].Size = 2 * mib },
		"partition 3 has type 0FC63D": func(p []compare.Partition) { p[2].Type = linux },
	} {
		j, p := &NodeResult{DiskSize: 3 << 30}, parts()
		change(p)
		j.checkTable(p, goldenroot.UEFI())
		got := strings.Join(j.Problems, "; ")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("problems %q, want %q", got, want)
		}
	}
}

// One wrong thing of any kind must keep a node from being right, and be
// printed.
func TestResultTells(t *testing.T) {
	good := func() *NodeResult {
		return &NodeResult{Name: "node1", Prompt: "node1", DiskSize: 3 << 30, Boot: 20 * time.Second,
			Serve:  ServeNode{MAC: "52:54:00:77:00:01", Address: "10.77.0.101", Seconds: map[string]float64{"clone": 7.5}},
			Report: &compare.Report{Entries: 17711}}
	}
	if !good().right() {
		t.Error("a node without a fault isn't right")
	}
	for want, spoil := range map[string]func(*NodeResult){
		"DIFFERENT \"/x\": mtime": func(j *NodeResult) {
			j.Report.Differences = []compare.Difference{{Path: "/x", Aspect: compare.Mtime, Golden: "1", Clone: "2"}}
		},
		"PROBLEM no swap":                 func(j *NodeResult) { j.problem("no swap") },
		"PROBLEM golden-serve says: lost": func(j *NodeResult) { j.Serve.Error = "lost" },
	} {
		j := good()
		spoil(j)
		if j.right() {
			t.Errorf("%s: the node is right all the same", want)
		}
		var out strings.Builder
		(&Result{Nodes: []*NodeResult{j}}).Print(&out)
		for _, s := range []string{want, "10.77.0.101", "7.5", "17711"} {
			if !strings.Contains(out.String(), s) {
				t.Errorf("the table lacks %q:\n%s", s, out.String())
			}
		}
	}
}

// TestCheckServe: what golden-serve itself says of a clone counts too.
func TestCheckServe(t *testing.T) {
	const mac = "52:54:00:77:00:01"
	for _, c := range []struct {
		verdict, mac string
		leftover     string
		want         string // in the problem; empty: none
	}{
		{"EXACT", mac, "", ""},
		{"EXACT", strings.ToUpper("52:54:00:77:00:aa"), "", "doesn't name " + mac},
		{"CONSISTENT-PER-FILE", mac, "", "verdict"},
		{"", mac, "", "verdict"},
		{"EXACT", mac, "/etc/mdadm/mdadm.conf:3: golden's host name golden", "golden is still named"},
	} {
		node := ServeNode{MAC: c.mac}
		if c.leftover != "" {
			node.Leftovers = []string{c.leftover}
		}
		j := &NodeResult{}
		j.checkServe(serveReport{Verdict: c.verdict, Nodes: []ServeNode{node}}, mac)
		got := strings.Join(j.Problems, "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%+v: problems %q", c, got)
		}
	}
}

func TestLoginPrompt(t *testing.T) {
	for line, want := range map[string]string{
		"node1 login: ": "node1", "node002.example.org login: ": "node002.example.org",
	} {
		if m := loginPrompt.FindStringSubmatch(line); m == nil || m[1] != want {
			t.Errorf("%q: %q, want %q", line, m, want)
		}
	}
	for _, line := range []string{"(initramfs) ", "grub rescue> ", "grub> ", "[ 1.0] Kernel panic - not syncing"} {
		if m := loginPrompt.FindStringSubmatch(line); m == nil || m[1] != "" {
			t.Errorf("%q isn't taken for the end of a boot: %q", line, m)
		}
	}
	if m := loginPrompt.FindStringSubmatch("node1 log"); m != nil {
		t.Errorf("half a prompt matched: %q", m)
	}
}

func TestPrefixer(t *testing.T) {
	var out strings.Builder
	p := &prefixer{w: &out, prefix: "| "}
	for _, s := range []string{"one\ntw", "o\n\n", "three\rfour\nfi"} {
		if n, err := p.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("write %q: %d, %v", s, n, err)
		}
	}
	if got, want := out.String(), "| one\n| two\n| three\n| four\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
