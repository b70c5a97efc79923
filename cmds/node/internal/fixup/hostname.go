package fixup

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// fixHostname names the clone, and takes golden's name away from the
// addresses that are the machine's own.
func fixHostname(_ context.Context, c *clone, rep *StepReport) error {
	named, err := c.olderNames(rep)
	if err != nil {
		return err
	}
	// Who has never had the file is not given one, where the name is elsewhere.
	if (!named || c.tree.isFile("/etc/hostname")) && c.tree.firstLine("/etc/hostname") != c.host {
		if err := c.tree.write("/etc/hostname", []byte(c.host+"\n"), 0o644); err != nil {
			return err
		}
		rep.touch("/etc/hostname", "named "+c.host)
	}
	_, err = c.edit(rep, "/etc/hosts", "own name", func(s string) string {
		out, notes := rewriteHosts(s, c.oldHost, c.host)
		rep.Warnings = append(rep.Warnings, notes...)
		return out
	})
	if err != nil {
		return err
	}
	_, err = c.editAll(rep, "own name", func(s string) string { return rename(s, c.oldHost, c.host) },
		"/etc/mailname", "/etc/machine-info", "/etc/dhcp/dhclient.conf", "/etc/dhclient.conf", "/etc/dhclient-*.conf",
		"/etc/sysconfig/network-scripts/ifcfg-*") // DHCP_HOSTNAME=
	if err != nil {
		return err
	}
	c.pointAtNames(rep)
	return nil
}

// olderNames are where systems before /etc/hostname have theirs: SUSE and
// Slackware, Red Hat and Mandriva, Gentoo, Arch.
func (c *clone) olderNames(rep *StepReport) (found bool, err error) {
	if c.tree.isFile("/etc/HOSTNAME") && c.tree.firstLine("/etc/HOSTNAME") != c.host {
		if err := c.tree.write("/etc/HOSTNAME", []byte(c.host+"\n"), 0o644); err != nil {
			return true, err
		}
		rep.touch("/etc/HOSTNAME", "named "+c.host)
	}
	found = c.tree.isFile("/etc/HOSTNAME")
	for _, f := range []struct{ file, key string }{
		{"/etc/sysconfig/network", "HOSTNAME"}, {"/etc/conf.d/hostname", "hostname"}, {"/etc/rc.conf", "HOSTNAME"},
	} {
		line := regexp.MustCompile(`(?m)^([ \t]*` + f.key + `=)(["']?)[^"'\s#]*(["']?)`)
		_, err := c.edit(rep, f.file, "named "+c.host, func(s string) string {
			found = found || line.MatchString(s)
			return line.ReplaceAllString(s, "${1}${2}"+c.host+"${3}")
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// pointAtNames: a mail server's name, or a file server's, is known to others
// and not always the machine's; who cloned it decides.
func (c *clone) pointAtNames(rep *StepReport) {
	short, _, _ := strings.Cut(c.oldHost, ".")
	if short == "" || strings.EqualFold(short, "localhost") {
		return
	}
	name := regexp.MustCompile(`(?i)^\s*(myhostname|myorigin|mydestination|dc_\w+|netbios name|server string|ServerName|hostname|rewriteDomain|host_name)\b.*(^|[^A-Za-z0-9_.-])` + regexp.QuoteMeta(short) + `([^A-Za-z0-9_-]|$)`)
	for _, file := range []string{
		"/etc/postfix/main.cf", "/etc/exim4/update-exim4.conf.conf", "/etc/samba/smb.conf", "/etc/ssmtp/ssmtp.conf", "/etc/msmtprc",
		"/etc/munin/munin-node.conf", "/etc/zabbix/zabbix_agentd.conf", "/etc/zabbix/zabbix_agent2.conf", "/etc/collectd/collectd.conf", "/etc/telegraf/telegraf.conf",
	} {
		c.pointAt(rep, file, name, "is still golden's name: no step changes it")
	}
}

// nodeName is the clone's name: given, or the template's with the number in it.
func nodeName(given, template string, number int) (string, error) {
	name := given
	if name == "" {
		var err error
		if name, err = fromTemplate(template, number); err != nil {
			return "", err
		}
	}
	if err := checkHostname(name); err != nil {
		return "", err
	}
	return name, nil
}

// fromTemplate sets the number into a template with one %d or %0Nd. A name has
// none, and is what it is.
func fromTemplate(template string, number int) (string, error) {
	if template != "" && !strings.Contains(template, "%") {
		return template, nil
	}
	if template == "" {
		template = "node%d"
	}
	if number < 1 {
		return "", fmt.Errorf("host name from %q: node number %d is less than 1", template, number)
	}
	verbs := regexp.MustCompile(`%(0[1-9])?d`).FindAllStringIndex(template, -1)
	if len(verbs) != 1 || strings.Count(template, "%") != 1 {
		return "", fmt.Errorf("host name template %q: want one %%d or %%0Nd and no other %%", template)
	}
	at := verbs[0]
	width, _ := strconv.Atoi(strings.Trim(template[at[0]:at[1]], "%d"))
	return template[:at[0]] + fmt.Sprintf("%0*d", width, number) + template[at[1]:], nil
}

// checkHostname: letters, digits and hyphens between dots (RFC 1123, section
// 2.1), and as long as the kernel takes it (HOST_NAME_MAX, 64).
func checkHostname(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("host name %q: %d characters, want 1 to 64", name, len(name))
	}
	label := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	for l := range strings.SplitSeq(name, ".") {
		if !label.MatchString(l) {
			return fmt.Errorf("host name %q: %q is not letters, digits and inner hyphens, 1 to 63 of them", name, l)
		}
	}
	return nil
}

// rename puts the new name in the old one's place, its domain kept where the
// new name brings none.
func rename(text, old, now string) string {
	oldShort, oldDomain, _ := strings.Cut(old, ".")
	nowShort, nowDomain, _ := strings.Cut(now, ".")
	if old == "" || strings.EqualFold(oldShort, "localhost") {
		return text
	}
	if oldDomain != "" && nowDomain != "" {
		text = replaceToken(text, old, now, nameBefore, nameAfter+".")
	}
	return replaceToken(text, oldShort, nowShort, nameBefore, nameAfter)
}

// rewriteHosts is /etc/hosts for the clone. On loopback lines golden's name
// means this machine and becomes the clone's. On other lines it is golden's
// address, which the clone doesn't have; they stay, and the clone's own name
// gets Debian's 127.0.1.1 line if it has no other.
func rewriteHosts(text, old, now string) (out string, notes []string) {
	var b strings.Builder
	short, _, _ := strings.Cut(now, ".")
	own := false
	for line := range strings.SplitAfterSeq(text, "\n") {
		body, _, _ := strings.Cut(line, "#")
		f := strings.Fields(body)
		switch {
		case len(f) == 0:
		case isLoopback(f[0]):
			line = rename(line, old, now)
			own = own || indexToken(line, short, 0, nameBefore, nameAfter) >= 0
		case rename(line, old, now) != line:
			notes = append(notes, "hosts: "+f[0]+" is the golden node's address, the line stays")
		}
		b.WriteString(line)
	}
	out = b.String()
	if own {
		return out, notes
	}
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	names := now
	if short != now {
		names += " " + short
	}
	return out + "127.0.1.1\t" + names + "\n", notes
}

func isLoopback(addr string) bool {
	return strings.HasPrefix(addr, "127.") || addr == "::1"
}
