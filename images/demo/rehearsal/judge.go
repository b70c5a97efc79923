package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/demo/goldenroot"
)

// judge looks at the copies of the disks from outside.
func (r *rehearsal) judge(ctx context.Context, result *Result) error {
	r.say("comparing the clones with the golden root")
	var report serveReport
	b, err := os.ReadFile(r.path("report.json"))
	if err != nil {
		return fmt.Errorf("golden-serve's report: %w", err)
	}
	if err := json.Unmarshal(b, &report); err != nil {
		return fmt.Errorf("golden-serve's report: %w", err)
	}
	result.Bytes, result.Sent, result.Kept = report.Bytes, report.Sent, report.Kept
	golden, err := compare.ReadIdentity(r.golden)
	if err != nil {
		return err
	}
	identities := []compare.Identity{golden}
	owners := []string{"the golden node"}
	right := true
	for _, n := range r.nodes {
		j := &NodeResult{Name: n.spec.Name, DiskSize: n.spec.DiskSize, Prompt: n.prompt, Boot: n.loginAfter, Problems: n.problems}
		result.Nodes = append(result.Nodes, j)
		if s := report.byMAC(n.spec.MAC); s != nil {
			j.Serve = *s
		} else {
			j.problem("golden-serve's report doesn't name %s", n.spec.MAC)
		}
		id, err := r.judgeDisk(ctx, n, j)
		if err != nil {
			return fmt.Errorf("%s: %w", n.spec.Name, err)
		}
		for i, other := range identities {
			for _, s := range compare.Shared(id, other) {
				j.problem("identity shared with %s: %s", owners[i], s)
			}
		}
		identities, owners = append(identities, id), append(owners, n.spec.Name)
		right = right && j.right()
	}
	after, err := compare.Scan(r.golden)
	if err != nil {
		return err
	}
	result.GoldenChanged = compare.Trees(r.before, after, nil).Differences
	if !right || len(result.GoldenChanged) > 0 {
		return ErrDifferent
	}
	return nil
}

func (r *rehearsal) judgeDisk(ctx context.Context, n *node, j *NodeResult) (compare.Identity, error) {
	parts, err := compare.Table(ctx, n.snapshot())
	if err != nil {
		return nil, err
	}
	j.checkTable(parts)
	for _, p := range parts {
		if strings.HasPrefix(p.FSType, "ext") {
			if err := compare.Fsck(ctx, n.snapshot(), p); err != nil {
				j.problem("partition %d: %v", p.Number, err)
			}
		}
	}
	var id compare.Identity
	err = compare.Assembled(ctx, n.snapshot(), parts, goldenroot.MountPoints(), func(root string) error {
		clone, err := compare.Scan(root)
		if err != nil {
			return err
		}
		j.Report = compare.Trees(r.before, clone, append(compare.CloneRules(), compare.ExcludedRules(goldenroot.Scratch)...))
		for name := range clone {
			if strings.HasPrefix(name, goldenroot.Scratch+"/") {
				j.problem("%s is there in spite of -x", name)
			}
		}
		id, err = compare.ReadIdentity(root)
		if err != nil {
			return err
		}
		return errors.Join(j.checkIdentity(root, parts, id), j.Report.WriteFile(r.path(n.spec.Name+".compare")))
	})
	return id, err
}

// checkTable holds the partition table against goldenroot.Desc.
func (j *NodeResult) checkTable(parts []compare.Partition) {
	want := []struct {
		number    int
		types     []string // MBR type bytes as sfdisk prints them
		content   string
		least, at int64 // MiB; 0: what is left
	}{
		{1, []string{"83"}, "ext4", 1600, 1600}, {2, []string{"5", "f"}, "", 0, 0},
		{5, []string{"82"}, "swap", 127, 128}, {6, []string{"83"}, "ext4", 0, 0},
	}
	if len(parts) != len(want) {
		j.problem("%d partitions, want %d", len(parts), len(want))
		return
	}
	for i, w := range want {
		p, mib := parts[i], parts[i].Size>>20
		if p.Number != w.number || !slices.Contains(w.types, p.Type) || p.FSType != w.content {
			j.problem("partition %d has type %s with %q, want %d, type %v with %q", p.Number, p.Type, p.FSType, w.number, w.types, w.content)
		}
		if w.at != 0 && (mib < w.least || mib > w.at) {
			j.problem("partition %d has %d MiB, want %d", p.Number, mib, w.at)
		}
	}
	// "fill": at most two MiB, for alignment, may be left over.
	last := parts[len(parts)-1]
	if end := last.Start + last.Size; j.DiskSize-end > 2<<20 || end > j.DiskSize {
		j.problem("the last partition ends at byte %d of a disk of %d", end, j.DiskSize)
	}
}

func (j *NodeResult) checkIdentity(root string, parts []compare.Partition, id compare.Identity) error {
	traces, err := compare.Traces(root, []string{goldenroot.MachineID, goldenroot.NICAddr, goldenroot.LeaseAddr})
	if err != nil {
		return err
	}
	fstab, err := compare.FstabProblems(root, parts, goldenroot.MountPoints())
	if err != nil {
		return err
	}
	for _, s := range append(traces, fstab...) {
		j.problem("%s", s)
	}
	if host := id["/etc/hostname"]; host != j.Prompt {
		j.problem("its host name is %q, its log-in prompt says %q", host, j.Prompt)
	}
	menu, err := os.ReadFile(root + "/boot/grub/grub.cfg")
	if err != nil {
		return err
	}
	// A name like /dev/sda1 boots too, until somebody plugs in another disk.
	for _, p := range parts {
		if p.Number == 1 && !strings.Contains(string(menu), "root=UUID="+p.UUID) {
			j.problem("grub.cfg doesn't boot root=UUID=%s", p.UUID)
		}
	}
	return nil
}
