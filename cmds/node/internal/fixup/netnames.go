package fixup

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// pinNames keeps golden's names for the interfaces that the configuration
// knows by their names only. On other hardware than golden's udev would call
// the card something else, and it would have no network. Of several cards only
// those that a nodes file names are sure to be the right ones.
func (c *clone) pinNames(rep *StepReport, list []wired, given map[int]fate) error {
	var only []string // cards that are known by name, without an address of the node's own
	for _, w := range list {
		if byName(w) && w.mac == "" && !slices.Contains(only, w.name) {
			only = append(only, w.name)
		}
	}
	done := map[string]bool{}
	for i, w := range list {
		f := given[i]
		if !byName(w) || done[w.name] || isKeyOrUnit(w.file) && f.net != nil {
			continue
		}
		mac := f.mac
		if mac == "" && len(only) == 1 && w.name == only[0] && len(c.env.MACs) == 1 {
			mac = c.env.MACs[0]
		}
		if !isMAC(mac) {
			continue
		}
		done[w.name] = true
		if err := c.pin(rep, w.name, strings.ToLower(mac)); err != nil {
			return err
		}
	}
	return nil
}

// isKeyOrUnit are the dialects that find an addressed card by its address
// alone.
func isKeyOrUnit(file string) bool {
	return strings.Contains(file, "/NetworkManager/") || strings.HasSuffix(file, ".network") || strings.HasPrefix(file, "/etc/netplan/")
}

// byName: a card with a whole name, no pattern.
func byName(w wired) bool {
	return w.plain && regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,14}$`).MatchString(w.name)
}

// pin has udev give a card its name: by a .link file, or by the rule of udev
// before systemd. systemd's can't rename to what the kernel itself gives
// (eth0): the name may be another card's at that moment, systemd.link(5).
func (c *clone) pin(rep *StepReport, name, mac string) error {
	kernels := regexp.MustCompile(`^(eth|wlan)[0-9]+$`).MatchString(name)
	file, text := "/etc/systemd/network/10-kamethod-"+name+".link", "[Match]\nType=ether\nMACAddress="+mac+"\n\n[Link]\nName="+name+"\n"
	if !c.hasSystemdUdev() {
		if !c.tree.isDir("/etc/udev/rules.d") {
			return nil
		}
		file, text = "/etc/udev/rules.d/70-persistent-net.rules", ""
		line := fmt.Sprintf("SUBSYSTEM==\"net\", ACTION==\"add\", ATTR{address}==\"%s\", NAME=\"%s\"\n", mac, name)
		old, _ := c.tree.read(file) // another pin's, or absent
		if strings.Contains(string(old), line) {
			return nil
		}
		text = string(old) + line
	} else if kernels {
		return nil
	}
	if old, err := c.tree.read(file); err == nil && string(old) == text {
		return nil
	}
	if err := c.tree.mkdir(path.Dir(file)); err != nil {
		return err
	}
	if err := c.tree.write(file, []byte(text), 0o644); err != nil {
		return err
	}
	rep.touch(file, "this node's card "+mac+" is called "+name+", as golden's is")
	return nil
}

func (c *clone) hasSystemdUdev() bool {
	for _, p := range []string{"/lib/systemd/systemd-udevd", "/usr/lib/systemd/systemd-udevd"} {
		if fi, err := c.tree.stat(p); err == nil && fi.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// holdCloudInit keeps cloud-init, which takes the clone for a new instance,
// from writing golden's way of addresses over the node's own, and its name.
func (c *clone) holdCloudInit(rep *StepReport, addressed bool) error {
	const dir = "/etc/cloud/cloud.cfg.d"
	const file = dir + "/99-kamethod.cfg"
	_, there := c.tree.program("cloud-init")
	if !addressed || !there || !c.tree.isDir(dir) || c.tree.isFile("/etc/cloud/cloud-init.disabled") || c.tree.isFile(file) {
		return nil
	}
	rep.touch(file, "cloud-init leaves the node's address and name alone")
	return c.tree.write(file, []byte("network: {config: disabled}\npreserve_hostname: true\n"), 0o644)
}

// globalRoutes are the gateways that some dialects keep apart from the
// interfaces: golden's goes where the clone asks DHCP, and the node's own
// comes in its place.
func (c *clone) globalRoutes(rep *StepReport, nets []wire.Network, dhcp bool) error {
	gateway, dns := "", []string(nil)
	for _, n := range nets {
		if gateway == "" && isFour(n.Gateway) {
			gateway = n.Gateway
		}
		if dns == nil {
			dns = n.DNS
		}
	}
	reached := func(addr string) bool {
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return false
		}
		for _, n := range nets {
			if reaches(n)(netip.PrefixFrom(a, a.BitLen())) {
				return true
			}
		}
		return false
	}
	if len(nets) == 0 && !dhcp {
		return nil
	}
	_, err := c.edit(rep, "/etc/sysconfig/network", "the way out of golden's network", func(s string) string {
		var b strings.Builder
		for _, l := range splitShell(s) {
			if l.key != "GATEWAY" || gateway == "" && reached(l.value) {
				b.WriteString(l.raw)
			}
		}
		return b.String()
	})
	if err != nil || !c.tree.isDir("/etc/sysconfig/network") {
		return err
	}
	return c.suseRoutes(rep, gateway, dns, reached)
}

// suseRoutes are routes(5) and netconfig(8) of SUSE.
func (c *clone) suseRoutes(rep *StepReport, gateway string, dns []string, reached func(string) bool) error {
	const file = "/etc/sysconfig/network/routes"
	change := func(s string) string {
		var b strings.Builder
		for line := range strings.SplitAfterSeq(s, "\n") {
			f := strings.Fields(line)
			if len(f) > 1 && (f[0] == "default" || f[0] == "0.0.0.0/0") && (gateway != "" || !reached(f[1])) {
				continue
			}
			b.WriteString(line)
		}
		if gateway == "" {
			return b.String()
		}
		if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
			b.WriteString("\n")
		}
		return b.String() + "default " + gateway + " - -\n"
	}
	there, err := c.edit(rep, file, "the way out of the node's network", change)
	if err == nil && !there && gateway != "" {
		rep.touch(file, "the way out of the node's network")
		err = c.tree.write(file, []byte(change("")), 0o644)
	}
	if err != nil || len(dns) == 0 {
		return err
	}
	_, err = c.edit(rep, "/etc/sysconfig/network/config", "the node's name servers", func(s string) string {
		return regexp.MustCompile(`(?m)^NETCONFIG_DNS_STATIC_SERVERS=.*$`).ReplaceAllLiteralString(s, `NETCONFIG_DNS_STATIC_SERVERS="`+strings.Join(dns, " ")+`"`)
	})
	return err
}
