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
		look := r.judgeDisk
		if r.Cell != nil {
			look = r.judgeCell
		}
		j.checkServe(report, n.spec.MAC)
		id, err := look(ctx, n, j)
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
	j.checkTable(parts, r.layout)
	for _, p := range parts {
		if strings.HasPrefix(p.FSType, "ext") || p.FSType == "vfat" {
			if err := compare.Fsck(ctx, n.snapshot(), p); err != nil {
				j.problem("partition %d: %v", p.Number, err)
			}
		}
	}
	var id compare.Identity
	err = compare.Assembled(ctx, n.snapshot(), parts, r.layout.Mounts, func(root string) error {
		clone, err := compare.Scan(root)
		if err != nil {
			return err
		}
		rules := append(compare.CloneRules(), compare.ExcludedRules(goldenroot.Scratch)...)
		if r.layout.ESP != 0 {
			rules = append(rules, compare.FATRules(r.layout.Mounts[r.layout.ESP])...)
		}
		j.Report = compare.Trees(r.before, clone, append(rules, r.Rules...))
		for name := range clone {
			if strings.HasPrefix(name, goldenroot.Scratch+"/") {
				j.problem("%s is there in spite of -x", name)
			}
		}
		id, err = compare.ReadIdentity(root)
		if err != nil {
			return err
		}
		return errors.Join(j.checkIdentity(root, parts, r.layout, id), j.Report.WriteFile(r.path(n.spec.Name+".compare")))
	})
	return id, err
}

// wanted is a partition as the desc asks for it.
type wanted struct {
	number    int
	types     []string // as sfdisk prints them
	content   string
	least, at int64 // MiB; 0: what is left
}

func wantedTable(l goldenroot.Layout) []wanted {
	const linux, swap = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
	if l.ESP != 0 {
		return []wanted{
			{1, []string{"C12A7328-F81F-11D2-BA4B-00A0C93EC93B"}, "vfat", 100, 100}, {2, []string{linux}, "ext4", 1600, 1600},
			{3, []string{swap}, "swap", 128, 128}, {4, []string{linux}, "ext4", 0, 0},
			// golden-serve adds it, as the golden root has GRUB for a BIOS too.
			{5, []string{"21686148-6449-6E6F-744E-656564454649"}, "", 1, 1},
		}
	}
	return []wanted{
		{1, []string{"83"}, "ext4", 1600, 1600}, {2, []string{"5", "f"}, "", 0, 0},
		{5, []string{"82"}, "swap", 127, 128}, {6, []string{"83"}, "ext4", 0, 0},
	}
}

// checkTable holds the partition table against the layout's desc.
func (j *NodeResult) checkTable(parts []compare.Partition, l goldenroot.Layout) {
	want := wantedTable(l)
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
	last := parts[0]
	for _, p := range parts {
		extended := p.Type == "5" || p.Type == "f" // its end is its last logical's
		if !extended && p.Start+p.Size > last.Start+last.Size {
			last = p
		}
	}
	if end := last.Start + last.Size; j.DiskSize-end > 2<<20 || end > j.DiskSize {
		j.problem("the last partition ends at byte %d of a disk of %d", end, j.DiskSize)
	}
}

func (j *NodeResult) checkIdentity(root string, parts []compare.Partition, l goldenroot.Layout, id compare.Identity) error {
	traces, err := compare.Traces(root, []string{goldenroot.MachineID, goldenroot.NICAddr, goldenroot.LeaseAddr})
	if err != nil {
		return err
	}
	fstab, err := compare.FstabProblems(root, parts, l.Mounts)
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
		if l.Mounts[p.Number] == "/" && !strings.Contains(string(menu), "root=UUID="+p.UUID) {
			j.problem("grub.cfg doesn't boot root=UUID=%s", p.UUID)
		}
	}
	return nil
}
