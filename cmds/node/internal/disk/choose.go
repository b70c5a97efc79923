package disk

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// Choose finds the device for each disk of the plan, in the plan's order, and
// says for each device why it was taken or left. A disk of the plan with hints
// goes to the one device that they are all true of. What is
// on USB is for hints only. One without goes to the device of the same name; a single one to the single device left; and several
// to just as many, one for one in the order of their names, where on either
// side all are of one kind (sda, sdb to vda, vdb). Anything else would be
// luck, and is refused.
func Choose(plan wire.Plan, devs []Device) ([]Device, []string, error) {
	if len(plan.Disks) == 0 {
		return nil, nil, fmt.Errorf("choose disks: the plan has none")
	}
	c := choice{plan: plan, by: map[string]int{}, took: make([]Device, len(plan.Disks))}
	for _, d := range devs {
		if reason := d.unfit(); reason != "" {
			c.say("%s left: %s", d, reason)
		} else {
			c.fit = append(c.fit, d)
		}
	}
	if err := c.byHints(); err != nil {
		return nil, c.why, fmt.Errorf("choose disks: %w", err)
	}
	c.leaveUSB()
	c.byName()
	if open, left := c.open(), c.left(); len(open) == 1 && len(left) == 1 && c.hinted() == 0 {
		c.take(open[0], left[0], "the only one left")
	} else if len(open) == 1 && len(left) == 1 {
		c.take(open[0], left[0], "the only one that no hint is true of")
	}
	c.byFamily()
	if open := c.open(); len(open) > 0 {
		return nil, c.why, c.refuse(open)
	}
	for _, d := range c.left() {
		c.say("%s left: %s", d, c.unwanted(d))
	}
	return c.took, c.why, nil
}

// choice is a Choose under way.
type choice struct {
	plan wire.Plan
	fit  []Device       // that can be cloned to
	took []Device       // for each disk of the plan; none has an empty path
	by   map[string]int // devices' paths to the plan's disks
	why  []string
}

func (c *choice) say(format string, args ...any) { c.why = append(c.why, fmt.Sprintf(format, args...)) }

func (c *choice) take(i int, d Device, reason string) {
	c.took[i], c.by[d.Path] = d, i
	more := ""
	if len(d.Holders) > 0 {
		more = "; what is made of it is given up: " + strings.Join(d.Holders, ", ")
	}
	c.say("%s taken for %s: %s%s", d, c.plan.Disks[i].Name, reason, more)
}

// open are the indices of the plan's disks without a device.
func (c *choice) open() []int {
	var open []int
	for i, d := range c.took {
		if d.Path == "" {
			open = append(open, i)
		}
	}
	return open
}

// leaveUSB leaves what is on USB to hints: a stick or a backup's disk is often
// there by chance, and says that it isn't removable.
func (c *choice) leaveUSB() {
	c.fit = slices.DeleteFunc(c.fit, func(d Device) bool {
		_, taken := c.by[d.Path]
		if taken || d.Bus != "usb" {
			return false
		}
		c.say("%s left: on USB: name it with --match", d)
		return true
	})
}

// left are the devices without a disk of the plan.
func (c *choice) left() []Device {
	return slices.DeleteFunc(slices.Clone(c.fit), func(d Device) bool {
		_, taken := c.by[d.Path]
		return taken
	})
}

func (c *choice) hinted() int {
	n := 0
	for _, p := range c.plan.Disks {
		if p.Match != (layout.Match{}) {
			n++
		}
	}
	return n
}

// byHints takes the devices that hints are true of: one each, and none twice.
func (c *choice) byHints() error {
	for i, p := range c.plan.Disks {
		if p.Match == (layout.Match{}) {
			continue
		}
		if err := checkMatch(p.Match); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		var all []Device
		for _, d := range c.fit {
			if misses(p.Match, d) == "" {
				all = append(all, d)
			}
		}
		switch {
		case len(all) == 0:
			return fmt.Errorf("no disk for %s (%s): %s", p.Name, hint(p.Match), c.none(p.Match))
		case len(all) > 1:
			return fmt.Errorf("ambiguous: %s (%s) could be any of %s", p.Name, hint(p.Match), list(all))
		}
		if j, taken := c.by[all[0].Path]; taken {
			return fmt.Errorf("ambiguous: %s is meant for %s and for %s", all[0], c.plan.Disks[j].Name, p.Name)
		}
		c.take(i, all[0], hint(p.Match))
	}
	return nil
}

// none says of each device why no disk of such a kind was found.
func (c *choice) none(m layout.Match) string {
	reasons := slices.Clone(c.why)
	for _, d := range c.fit {
		if why := misses(m, d); why != "" {
			reasons = append(reasons, fmt.Sprintf("%s left: %s", d, why))
		}
	}
	if len(reasons) == 0 {
		return "no disk found"
	}
	return strings.Join(reasons, "; ")
}

// byName takes the devices of the same names, and says so if others could be
// meant: the kernel names disks in the order in which it finds them, which may
// be another one each time.
func (c *choice) byName() {
	same := map[int]Device{}
	left := c.left()
	for _, i := range c.open() {
		at := slices.IndexFunc(left, func(d Device) bool { return d.Name == c.plan.Disks[i].Name })
		if at >= 0 {
			same[i] = left[at]
			left = slices.Delete(left, at, at+1)
		}
	}
	for _, i := range c.open() {
		d, ok := same[i]
		if !ok {
			continue
		}
		reason := "same name"
		others := slices.DeleteFunc(slices.Clone(left), func(o Device) bool { return family(o.Name) == "" || family(o.Name) != family(d.Name) })
		if len(others) > 0 {
			reason += fmt.Sprintf(", which is the order in which they were found: %s fits as well; --match says which one is meant", list(others))
		}
		c.take(i, d, reason)
	}
}

// byFamily takes the devices in the order of their names, where those can
// mean nothing else: no disk is left over on either side, no name has spoken,
// and all that no hint is true of are attached in one way.
func (c *choice) byFamily() {
	open, left := c.open(), c.left()
	if len(open) == 0 || len(open) != len(left) || len(open) != len(c.plan.Disks)-c.hinted() {
		return
	}
	var golden, here []string
	for i, k := range open {
		golden, here = append(golden, c.plan.Disks[k].Name), append(here, left[i].Name)
	}
	of, is := oneFamily(golden), oneFamily(here)
	if of == "" || is == "" {
		return
	}
	slices.SortFunc(golden, natural)
	slices.SortFunc(here, natural)
	for _, k := range open {
		at := here[slices.Index(golden, c.plan.Disks[k].Name)]
		d := left[slices.IndexFunc(left, func(d Device) bool { return d.Name == at })]
		c.take(k, d, fmt.Sprintf("of %d disks %s the same in order as of golden's %s", len(here), is, of))
	}
}

// oneFamily is the family of all names, "nvme*"; empty if they have several,
// or one is unknown, or there twice.
func oneFamily(names []string) string {
	first := ""
	for i, n := range names {
		f := family(n)
		if f == "" || i > 0 && f != first || slices.Contains(names[:i], n) {
			return ""
		}
		first = f
	}
	return first
}

// family is the kind of disk that a name is of.
func family(name string) string {
	m := regexp.MustCompile(`^(?:(sd|hd|vd|xvd|ubd)[a-z]+|(nvme)\d+n1|(mmcblk|loop)\d+|(cciss|ida)/c\d+d\d+)$`).FindStringSubmatch(name)
	for i := 1; i < len(m); i++ {
		if m[i] != "" {
			return m[i] + "*"
		}
	}
	return ""
}

// natural orders names as the kernel gives them: sdb before sdaa, nvme2n1
// before nvme10n1.
func natural(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// unwanted is why a device isn't taken though it could be.
func (c *choice) unwanted(d Device) string {
	if c.hinted() < len(c.plan.Disks) {
		return "the plan names " + names(c.plan, nil)
	}
	var reasons []string
	for _, p := range c.plan.Disks {
		reasons = append(reasons, fmt.Sprintf("for %s %s", p.Name, misses(p.Match, d)))
	}
	return strings.Join(reasons, "; ")
}

// refuse names the disks without a device and what there was to choose from.
func (c *choice) refuse(open []int) error {
	left := c.left()
	if len(left) < len(open) {
		found := "no disk found"
		if len(c.why) > 0 {
			found = strings.Join(c.why, "; ")
		}
		return fmt.Errorf("choose disks: no disk for %s: %s", names(c.plan, open), found)
	}
	return fmt.Errorf("choose disks: ambiguous: %s could be any of %s", names(c.plan, open), list(left))
}

func list(devs []Device) string {
	var all []string
	for _, d := range devs {
		all = append(all, d.String())
	}
	return strings.Join(all, ", ")
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
