package disk

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// Choose finds the device for each disk of the plan, in the plan's order, and
// says for each device why it was taken or left. A disk of the plan goes to
// the device of the same name; a single one without such goes to the single
// device left when there are just as many devices as disks; anything else
// would be luck, and is refused.
func Choose(plan wire.Plan, devs []Device) ([]Device, []string, error) {
	if len(plan.Disks) == 0 {
		return nil, nil, fmt.Errorf("choose disks: the plan has none")
	}
	var why []string
	var fit []Device
	for _, d := range devs {
		if reason := d.unfit(); reason != "" {
			why = append(why, fmt.Sprintf("%s left: %s", d, reason))
			continue
		}
		fit = append(fit, d)
	}
	chosen := make([]Device, len(plan.Disks))
	taken := map[string]bool{}
	var open []int // indices of plan disks without a device
	for i, p := range plan.Disks {
		j := slices.IndexFunc(fit, func(d Device) bool { return d.Name == p.Name && !taken[d.Name] })
		if j < 0 {
			open = append(open, i)
			continue
		}
		chosen[i], taken[p.Name] = fit[j], true
		why = append(why, fmt.Sprintf("%s taken for %s: same name", fit[j], p.Name))
	}
	left := slices.DeleteFunc(slices.Clone(fit), func(d Device) bool { return taken[d.Name] })
	if len(open) == 1 && len(left) == 1 {
		name := plan.Disks[open[0]].Name
		chosen[open[0]] = left[0]
		return chosen, append(why, fmt.Sprintf("%s taken for %s: the only one left", left[0], name)), nil
	}
	if len(open) == 0 {
		for _, d := range left {
			why = append(why, fmt.Sprintf("%s left: the plan names %s", d, names(plan, nil)))
		}
		return chosen, why, nil
	}
	return nil, why, refuse(plan, open, left, why)
}

// refuse names the disks without a device and what there was to choose from.
func refuse(plan wire.Plan, open []int, left []Device, why []string) error {
	if len(left) < len(open) {
		found := "no disk found"
		if len(why) > 0 {
			found = strings.Join(why, "; ")
		}
		return fmt.Errorf("choose disks: no disk for %s: %s", names(plan, open), found)
	}
	var list []string
	for _, d := range left {
		list = append(list, d.String())
	}
	return fmt.Errorf("choose disks: ambiguous: %s could be any of %s", names(plan, open), strings.Join(list, ", "))
}

// names lists the plan's disks, of those indices or all.
func names(plan wire.Plan, of []int) string {
	var list []string
	for i, d := range plan.Disks {
		if of == nil || slices.Contains(of, i) {
			list = append(list, d.Name)
		}
	}
	return strings.Join(list, ", ")
}
