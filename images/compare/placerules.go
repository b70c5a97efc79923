package compare

import "strings"

// PlaceRules are the differences that come of what a place's file system is,
// and that it is new.
func PlaceRules(p Place) []Rule {
	at := strings.TrimSuffix(p.At, "/")
	rules := []Rule{
		{p.At, touched, "a new file system's top folder"},
		{at + "/lost+found", made, "made by mkfs"},
	}
	switch p.Type {
	case "vfat":
		return append(FATRules(p.At), rules...)
	}
	return rules
}

// StackRules are the differences of a clone whose file systems are on arrays,
// containers and volumes of its own.
func StackRules() []Rule {
	return []Rule{
		{"/etc/mdadm", touched, "holds a rewritten file"},
		{"/etc/mdadm/mdadm.conf", rewritten, "names the clone's own arrays"},
		{"/etc/crypttab", rewritten, "names the clone's own containers"},
		{"/etc/lvm/archive/*", nil, "records of golden's volume groups"},
		{"/etc/lvm/backup/*", nil, "records of golden's volume groups"},
	}
}
