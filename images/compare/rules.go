package compare

import (
	"path"
	"slices"
	"strings"
)

// Rule allows an entry to differ in named aspects, for a reason.
type Rule struct {
	Path    string   // exact or a pattern of path.Match; "/dir/**" is all below dir
	Aspects []Aspect // nil: any
	Reason  string
}

func (r Rule) covers(d Difference) bool {
	if r.Aspects != nil && !slices.Contains(r.Aspects, d.Aspect) {
		return false
	}
	if below, ok := strings.CutSuffix(r.Path, "/**"); ok {
		return strings.HasPrefix(d.Path, below+"/")
	}
	matched, err := path.Match(r.Path, d.Path)
	return err == nil && matched
}

func reason(rules []Rule, d Difference) string {
	for _, r := range rules {
		if r.covers(d) {
			return r.Reason
		}
	}
	return ""
}

var (
	rewritten = []Aspect{Content, Size, Mtime, Allocation}
	removed   = []Aspect{Missing}
	made      = []Aspect{Extra}
	touched   = []Aspect{Mtime}
)

// CloneRules are the differences that a Debian clone must or may have once it
// has become a machine of its own, before its first boot. Owner, mode, xattrs
// and flags are in none of them: what is rewritten keeps those.
func CloneRules() []Rule {
	return []Rule{
		{"/etc/fstab", rewritten, "names the clone's own file systems"},
		{"/etc/machine-id", rewritten, "a machine's own"},
		{"/var/lib/dbus/machine-id", rewritten, "a machine's own"},
		{"/etc/hostname", rewritten, "a machine's own"},
		{"/etc/hosts", rewritten, "has the host name"},
		{"/etc/mailname", rewritten, "has the host name"},
		{"/etc/ssh/ssh_host_*", rewritten, "a machine's own"},
		{"/etc/udev/rules.d/70-persistent-net.rules", nil, "binds names to golden's network cards"},
		{"/var/lib/dhcp/*", nil, "golden's leases"},
		{"/var/lib/NetworkManager/*.lease", removed, "golden's leases"},
		{"/var/lib/systemd/random-seed", removed, "the same seed on every clone"},
		{"/var/lib/systemd/credential.secret", removed, "the same secret on every clone"},
		{"/etc/initramfs-tools/conf.d/resume", nil, "names the clone's own swap"},
		{"/etc/default/grub", rewritten, "may name a resume device"},
		{"/etc/kernel/cmdline", rewritten, "may name a root device"},
		{"/boot/initrd.img-*", rewritten, "rebuilt on the clone"},
		{"/var/lib/initramfs-tools/*", nil, "checksum of the rebuilt initrd"},
		{"/boot/grub", touched, "boot loader installed on the clone"},
		{"/boot/grub/**", nil, "boot loader installed on the clone"},
		{"/var/cache/debconf/*.dat", rewritten, "has the disk that the boot loader is on"},
		{"/var/cache/debconf/*.dat-old", rewritten, "has the disk that the boot loader is on"},
		{"/var/cache/debconf", touched, "holds rewritten files"},
		{"/lost+found", made, "made by mkfs"},
		{"/home/lost+found", made, "made by mkfs"},
		{"/", touched, "holds lost+found"},
		{"/home", touched, "holds lost+found"},
		{"/etc", touched, "holds rewritten files"},
		{"/etc/ssh", touched, "holds rewritten files"},
		{"/etc/default", touched, "holds rewritten files"},
		{"/etc/kernel", touched, "holds rewritten files"},
		{"/etc/udev/rules.d", touched, "holds a removed file"},
		{"/etc/initramfs-tools/conf.d", touched, "holds a rewritten file"},
		{"/var/lib/dhcp", touched, "holds removed files"},
		{"/var/lib/dbus", touched, "holds a rewritten file"},
		{"/var/lib/systemd", touched, "holds removed files"},
		{"/var/lib/initramfs-tools", touched, "holds a rewritten file"},
		{"/boot", touched, "holds the rebuilt initrd"},
		{"/tmp", touched, "the boot loader's and initrd's tools work there"},
		{"/var/tmp", touched, "the boot loader's and initrd's tools work there"},
	}
}

// ExcludedRules allow what golden-serve -x DIR asks for: nothing in the
// directory, and no other change of itself than that it is new.
func ExcludedRules(dir string) []Rule {
	return []Rule{
		{dir + "/**", removed, "excluded by -x"},
		{dir, touched, "made empty by -x"},
	}
}

// FATRules allow what comes of the golden node's files on an EFI system
// partition, mounted there: FAT has neither owners nor modes, keeps a time to
// two seconds, and the boot loader is installed there.
func FATRules(at string) []Rule {
	fat := []Aspect{Owner, Mode, Mtime, Allocation, Flags}
	return []Rule{
		{at, fat, "FAT has no owner, mode or exact time"},
		{at + "/EFI/debian", made, "boot loader installed on the clone"},
		{at + "/EFI/debian/**", made, "boot loader installed on the clone"},
		{at + "/EFI/BOOT", made, "boot loader installed on the clone"},
		{at + "/EFI/BOOT/**", made, "boot loader installed on the clone"},
		{at + "/**", fat, "FAT has no owner, mode or exact time"},
	}
}
