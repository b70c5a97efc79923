package rehearsal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/vmlab"
	"github.com/kamethod/kamethod/images/vmlab/vmtest"
)

// judgePrograms are what the judge's machine needs, and stage 2's image may
// lack: it must not judge by the judged one's tools alone.
var judgePrograms = []string{
	"sfdisk", "blkid", "mdadm", "lvm", "cryptsetup", "e2fsck", "xfs_repair", "btrfs", "fsck.jfs", "reiserfsck", "fsck.f2fs", "fsck.fat",
}

// judgeCell looks at the copies of a clone's disks from inside another machine,
// whose kernel knows all that is on them.
//
//	copies of the disks ─▶ vmtest: compare/inspect ─gob─▶ a last disk ─▶ here
func (r *rehearsal) judgeCell(ctx context.Context, n *node, j *NodeResult) (compare.Identity, error) {
	c := r.Cell
	a := c.Clone
	a.Words = []string{goldenroot.MachineID, goldenroot.NICAddr, goldenroot.LeaseAddr}
	a.Disks = map[string]string{}
	var disks []vmlab.Disk
	for i, name := range c.Golden {
		a.Disks[name] = fmt.Sprintf("/dev/vd%c", 'a'+i)
		disks = append(disks, vmlab.Disk{File: n.copies()[i], Sector: c.Disks[i].Sector})
	}
	found, err := r.inspect(ctx, n, a, disks)
	if err != nil {
		return nil, err
	}
	j.Problems = append(j.Problems, found.Problems...)
	for i, name := range c.Golden {
		j.checkWanted(name, found.Tables[name], c.Wanted[name], c.Disks[i].Size)
	}
	j.Report = compare.Trees(r.before, found.Tree, c.rules())
	if err := allowLimits(j.Report, r.before, found.Tree, a.Places); err != nil {
		return nil, err
	}
	for name := range found.Tree {
		if strings.HasPrefix(name, goldenroot.Scratch+"/") {
			j.problem("%s is there in spite of -x", name)
		}
	}
	if host := found.Identity["/etc/hostname"]; host != j.Prompt {
		j.problem("its host name is %q, its log-in prompt says %q", host, j.Prompt)
	}
	for _, p := range a.Places {
		if p.At != "/" {
			continue
		}
		right := []string{"root=UUID=" + found.UUIDs[p.On]}
		if strings.Contains(p.On, "/") { // grub-mkconfig calls a volume by either of its names
			right = append(right, "root=/dev/"+p.On+" ", "root=/dev/mapper/"+strings.Replace(p.On, "/", "-", 1)+" ")
		}
		if !slices.ContainsFunc(right, func(s string) bool { return strings.Contains(found.Menu, s) }) {
			j.problem("grub.cfg boots none of %q (%s)", right, p.On)
		}
	}
	return found.Identity, j.Report.WriteFile(r.path(n.spec.Name + ".compare"))
}

// allowLimits sets apart what the file systems can't hold, each for what is
// on it.
func allowLimits(report *compare.Report, golden, clone compare.Tree, places []compare.Place) error {
	all := report.Differences
	report.Differences = nil
	var left []compare.Difference
	for i, p := range places {
		if p.Type == "vfat" { // has rules of its own
			continue
		}
		limits, err := compare.LimitsOf(p.Type, 0)
		if err != nil {
			return err
		}
		report.Differences = nil
		for _, d := range all {
			if nearest(places, d.Path) == i && !pointers(p.Type, d, golden[d.Path], clone[d.Path]) {
				report.Differences = append(report.Differences, d)
			}
		}
		report.Allow(golden, clone, p.At, limits)
		left = append(left, report.Differences...)
	}
	for _, d := range all {
		if n := nearest(places, d.Path); n < 0 || places[n].Type == "vfat" {
			left = append(left, d)
		}
	}
	report.Differences = left
	return nil
}

// pointers tells whether a file takes more room only by what ext3 and reiserfs
// keep of each of its blocks, four bytes, even in a hole; both count that.
func pointers(fs string, d compare.Difference, golden, clone *compare.Entry) bool {
	if d.Aspect != compare.Allocation || fs != "ext3" && fs != "reiserfs" || golden == nil || clone == nil {
		return false
	}
	more := (clone.Blocks - golden.Blocks) * 512
	return more > 0 && more <= golden.Size/1024+16<<10
}

// nearest is the place that a path is in.
func nearest(places []compare.Place, name string) int {
	best := -1
	for i, p := range places {
		in := p.At == "/" || name == p.At || strings.HasPrefix(name, p.At+"/")
		if in && (best < 0 || len(p.At) > len(places[best].At)) {
			best = i
		}
	}
	return best
}

// inspect has the other machine look, and reads what it found.
func (r *rehearsal) inspect(ctx context.Context, n *node, a compare.Attached, disks []vmlab.Disk) (*compare.Finding, error) {
	build := exec.CommandContext(ctx, "go", "build", "-o", r.path("inspect"), "./images/compare/inspect")
	build.Dir, build.Env = r.Top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build inspect: %w\n%s", err, out)
	}
	order, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(r.path("attached.json"), order, 0o600); err != nil {
		return nil, err
	}
	to := vmlab.Disk{File: r.path(n.spec.Name + ".found.img"), Size: 256 << 20}
	device := fmt.Sprintf("/dev/vd%c", 'a'+len(disks))
	err = vmtest.Exec(ctx, vmtest.Machine{
		Program: []string{r.path("inspect"), "/work/attached.json", device}, Programs: judgePrograms, Memory: 1024,
		Files: []string{r.path("attached.json") + "=/work/attached.json"}, Disks: append(slices.Clone(disks), to),
		Env: []string{"DM_DISABLE_UDEV=1"}, Timeout: 20 * time.Minute,
	}, &prefixer{w: r.Out, prefix: "            judge │ "})
	if err != nil {
		return nil, err
	}
	return readFinding(to.File)
}

func readFinding(name string) (*compare.Finding, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var length [8]byte
	if _, err := io.ReadFull(f, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(length[:])
	if n == 0 || n > 256<<20 {
		return nil, fmt.Errorf("read %s: %d bytes of findings", name, n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(f, text); err != nil {
		return nil, err
	}
	var found compare.Finding
	if err := gob.NewDecoder(bytes.NewReader(text)).Decode(&found); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return &found, nil
}

// checkWanted holds a table against what the cell's layout asks for.
func (j *NodeResult) checkWanted(disk string, parts []compare.Partition, want []Wanted, size int64) {
	if len(parts) != len(want) {
		j.problem("%s has %d partitions, want %d", disk, len(parts), len(want))
		return
	}
	end := int64(0)
	for i, w := range want {
		p, mib := parts[i], parts[i].Size>>20
		if p.Number != w.Number || !slices.Contains(w.Types, p.Type) {
			j.problem("%s: partition %d has type %s, want %d with %v", disk, p.Number, p.Type, w.Number, w.Types)
		}
		if w.MiB != 0 && (mib < w.MiB-1 || mib > w.MiB) { // a logical one lies after a sector of its own
			j.problem("%s: partition %d has %d MiB, want %d", disk, p.Number, mib, w.MiB)
		}
		end = max(end, p.Start+p.Size)
	}
	if size-end > 2<<20 || end > size { // two MiB, for alignment, may be left over
		j.problem("%s: the last partition ends at byte %d of %d", disk, end, size)
	}
}
