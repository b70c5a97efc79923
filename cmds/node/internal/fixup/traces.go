package fixup

import (
	"context"
	"path"
	"strings"
)

// fixTraces makes an image for others of a machine that somebody has used:
// what virt-sysprep's default operations remove. What else a person has in a
// home stays, keys and who may log in by ssh among it: nobody is locked out.
func fixTraces(_ context.Context, c *clone, rep *StepReport) error {
	if !c.env.template() {
		rep.Skipped = "only with --identity template"
		return nil
	}
	for _, t := range []struct {
		why   string
		paths []string
	}{
		{"users' history", homes(".bash_history", ".zsh_history", ".histfile", ".sh_history", ".ash_history", ".python_history", ".mysql_history", ".psql_history", ".sqlite_history",
			".lesshst", ".viminfo", ".wget-hsts", ".rnd", ".local/share/fish/fish_history", ".local/share/recently-used.xbel", ".cache")},
		{"users' ssh hosts", homes(".ssh/known_hosts", ".ssh/known_hosts.old")},
		{"mail", []string{"/var/spool/mail/*", "/var/mail/*", "/var/spool/postfix/*/*", "/var/spool/exim4/*/*", "/var/spool/mqueue/*", "/var/lib/dovecot/*"}},
		{"users' cron tables and jobs", []string{"/var/spool/cron/crontabs/*", "/var/spool/cron/tabs/*", "/var/spool/at/[a-z]*[0-9]", "/var/spool/cron/atjobs/*", "/var/spool/cups/[cd]*"}},
		{"crash data", []string{"/var/crash/*", "/var/lib/systemd/coredump/*", "/var/spool/abrt/*", "/var/tmp/abrt/*", "/var/lib/apport/coredump/*", "/var/log/dump/*"}},
		{"temporary files", []string{"/tmp/*", "/tmp/.[!.]*", "/var/tmp/*", "/var/tmp/.[!.]*"}},
		{"golden's log", []string{"/var/log/journal/*", "/var/log/*.gz", "/var/log/*.xz", "/var/log/*.bz2", "/var/log/*.old", "/var/log/*.[0-9]", "/var/log/*-20[0-9][0-9][0-9][0-9][0-9][0-9]", "/var/log/sa/*",
			"/var/log/anaconda", "/var/log/installer", "/var/log/YaST2", "/root/anaconda-ks.cfg", "/root/original-ks.cfg", "/root/install.log*", "/root/ddebug.log", "/var/log/drakx"}},
		{"who had logged in", []string{"/var/lib/lastlog/*", "/var/lib/wtmpdb/*", "/var/lib/systemd/linger/*", "/var/log/account/*", "/var/account/*"}},
		{"an older copy of accounts", []string{"/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-"}},
		{"what was looked at", []string{"/var/lib/blkid/*", "/etc/blkid.tab*", "/etc/blkid/*", "/var/cache/samba/*", "/var/lib/PackageKit/*"}},
	} {
		for _, p := range t.paths {
			for _, name := range c.globAll(p) {
				if isQueueFolder(c, p, name) {
					continue
				}
				if err := c.removeAll(rep, name, t.why); err != nil {
					return err
				}
			}
		}
	}
	return c.emptyLogs(rep, "/var/log", 0)
}

// isQueueFolder: a mail server's queues are folders that it doesn't make anew.
func isQueueFolder(c *clone, pattern, name string) bool {
	return strings.HasPrefix(pattern, "/var/spool/") && c.tree.isDir(name)
}

// homes are these files of all users.
func homes(files ...string) []string {
	var out []string
	for _, f := range files {
		out = append(out, "/root/"+f, "/home/*/"+f)
	}
	return out
}

// emptyLogs empties the logs that are left: a program that writes one may not
// be allowed to make it.
func (c *clone) emptyLogs(rep *StepReport, dir string, depth int) error {
	if depth > 8 || c.tree.isLink(dir) {
		return nil
	}
	for _, e := range c.tree.list(dir) {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			if err := c.emptyLogs(rep, name, depth+1); err != nil {
				return err
			}
		case e.Type().IsRegular():
			if err := c.emptyFile(rep, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *clone) emptyFile(rep *StepReport, name string) error {
	fi, err := c.tree.stat(name)
	if err != nil || fi.Size() == 0 {
		return nil
	}
	rep.touch(name, "golden's log, emptied")
	return c.tree.write(name, nil, 0o640)
}
