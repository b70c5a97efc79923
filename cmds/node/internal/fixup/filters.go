package fixup

import (
	"regexp"
	"strings"
)

// filtered begins a line of lvm.conf that named golden's disks.
const filtered = "# golden's disks: "

// fixFilters has LVM look at all disks again, where golden's list of those that
// it may look at names disks: the clone's have other names, and its root would
// not be found.
func (c *clone) fixFilters(rep *StepReport) error {
	if len(c.env.Plan.Stack.Groups) == 0 {
		return nil
	}
	for _, name := range []string{"/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf"} {
		_, err := c.edit(rep, name, "LVM may look at all of the clone's disks", func(s string) string {
			out, notes := rewriteFilters(s)
			for _, n := range notes {
				rep.warn("%s: %s", name, n)
			}
			return out
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rewriteFilters comments out filter and global_filter (lvm.conf(5)) where they
// name disks. Those that only name what no disk is (/dev/zd*, /dev/md*) stay.
func rewriteFilters(text string) (out string, notes []string) {
	setting := regexp.MustCompile(`(?m)^[ \t]*(?:devices/)?((?:global_)?filter)[ \t]*=[ \t]*(?:\[(?:[^"\]]|"[^"]*")*\]|"[^"]*")`)
	disk := regexp.MustCompile(`dev\\?/(?:disk|(?:s|h|v|xv)d(?:[^a-z]|[a-z]\b|[a-z][^a-z])|nvme|mmcblk|cciss|mapper\\?/(?:mpath|3[0-9a-f]{32}))`)
	at := 0
	for _, m := range setting.FindAllStringSubmatchIndex(text, -1) {
		if !disk.MatchString(text[m[0]:m[1]]) {
			continue
		}
		rest, _, _ := strings.Cut(text[m[1]:], "\n")
		if rest = strings.Trim(rest, blanks+"\r"); rest != "" && !strings.HasPrefix(rest, "#") {
			notes = append(notes, text[m[2]:m[3]]+" names golden's disks, and "+rest+" behind it: left as it is")
			continue
		}
		out += text[at:m[0]]
		for line := range strings.SplitAfterSeq(text[m[0]:m[1]], "\n") {
			out += filtered + line
		}
		at = m[1]
		notes = append(notes, text[m[2]:m[3]]+" names golden's disks, commented out")
	}
	return out + text[at:], notes
}
