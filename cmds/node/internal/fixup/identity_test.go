package fixup

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/wire"
)

// TestIdentitySteps compares whole trees, after one run and after two.
func TestIdentitySteps(t *testing.T) {
	template := func(e *Env) { e.Plan.Identity.Mode = wire.IdentityTemplate }
	scrub := func(e *Env) { e.Plan.Identity.Scrub = []string{wire.ScrubApps} }
	members := map[string]string{
		"etc/krb5.keytab": "k", "var/lib/kubelet/pki/a.pem": "k", "var/lib/kubelet/config.yaml": "c", "etc/salt/minion_id": "golden", "var/lib/mysql/auto.cnf": "x", "var/lib/mysql/ibdata1": "d",
		"etc/tinc/vpn/rsa_key.priv": "k", "var/lib/cloud/instance -> instances/i-1": "", "var/lib/cloud/instances/i-1/x": "c",
	}
	for _, tt := range []struct {
		name         string
		run          stepFunc
		change       func(*Env)
		before, want map[string]string
		warn         []string
	}{
		{"names of old", fixHostname, nil,
			map[string]string{"etc/HOSTNAME": "golden.lan\n", "etc/sysconfig/network": "NETWORKING=yes\nHOSTNAME=golden.lan # mine\n", "etc/conf.d/hostname": "hostname=\"golden\"\n", "etc/rc.conf": "HOSTNAME='golden'\n", "etc/hosts": "127.0.0.1 golden localhost\n",
				"etc/sysconfig/network-scripts/ifcfg-eth0": "DHCP_HOSTNAME=golden\n", "etc/dhcp/dhclient.conf": "send host-name \"golden\";\n", "etc/postfix/main.cf": "# golden\nmyhostname = mail.golden.lan\nmydestination = golden, localhost\n"},
			map[string]string{"etc/HOSTNAME": "node7\n", "etc/sysconfig/network": "NETWORKING=yes\nHOSTNAME=node7 # mine\n", "etc/conf.d/hostname": "hostname=\"node7\"\n", "etc/rc.conf": "HOSTNAME='node7'\n", "etc/hosts": "127.0.0.1 node7 localhost\n",
				"etc/sysconfig/network-scripts/ifcfg-eth0": "DHCP_HOSTNAME=node7\n", "etc/dhcp/dhclient.conf": "send host-name \"node7\";\n", "etc/postfix/main.cf": "# golden\nmyhostname = mail.golden.lan\nmydestination = golden, localhost\n"},
			[]string{"main.cf:3 is still golden's name"}},
		{"names of both kinds", fixHostname, nil,
			map[string]string{"etc/HOSTNAME -> hostname": "", "etc/hostname": "golden\n", "etc/hosts": "127.0.1.1 node7\n"},
			map[string]string{"etc/HOSTNAME -> hostname": "", "etc/hostname": "node7\n", "etc/hosts": "127.0.1.1 node7\n"}, nil},
		{"leases everywhere", fixLeases, nil,
			map[string]string{"var/lib/wicked/duid.xml": "d", "var/lib/wicked/lease-eth0-dhcp-ipv4.xml": "l", "var/lib/connman/ethernet_525400aabb01_cable/settings": "x", "var/lib/connman/settings": "s", "etc/dhcpc/dhcpcd-eth0.info": "x", "etc/dhcpc/script": "s",
				"var/lib/NetworkManager/seen-bssids": "x", "var/lib/NetworkManager/NetworkManager.state": "s", "var/lib/dhcp/dhcpd6.leases": "l", "etc/systemd/networkd.conf": "[DHCPv4]\n#DUIDRawData=0\nDUIDRawData=00:42\n"},
			map[string]string{"var/lib/connman/settings": "s", "etc/dhcpc/script": "s", "var/lib/NetworkManager/NetworkManager.state": "s", "var/lib/dhcp/dhcpd6.leases": "", "etc/systemd/networkd.conf": "[DHCPv4]\n#DUIDRawData=0\nDUIDRawData=00:42\n"},
			[]string{"networkd.conf:3 is a client id"}},
		{"apps, an empty folder", fixApps, nil, map[string]string{"var/lib/ceph/osd/": "", "etc/x": ""}, map[string]string{"etc/x": ""}, nil},
		{"apps are listed", fixApps, nil, members, members, []string{"Kerberos host keys: /etc/krb5.keytab is golden's (--scrub apps", "/var/lib/kubelet/pki", "minion_id", "auto.cnf", "rsa_key.priv", "/var/lib/cloud/instance, /var/lib/cloud/instances is"}},
		{"apps are removed", fixApps, scrub, members, map[string]string{"var/lib/kubelet/config.yaml": "c", "var/lib/mysql/ibdata1": "d"}, nil},
		{"traces stay", fixTraces, nil, map[string]string{"root/.bash_history": "h"}, map[string]string{"root/.bash_history": "h"}, nil},
		{"traces go", fixTraces, template,
			map[string]string{"root/.bash_history": "h", "home/a/.zsh_history": "h", "home/a/.ssh/known_hosts": "k", "home/a/.ssh/authorized_keys": "k", "home/a/paper.tex": "p", "var/log/syslog": "golden", "var/log/syslog.1": "x", "var/log/apt/term.log": "x", "var/log/journal/" + idWas + "/system.journal": "j",
				"var/log/empty": "", "tmp/x/y": "t", "tmp/.X11-unix/X0": "t", "var/mail/a": "m", "var/spool/cron/crontabs/a": "c", "var/spool/postfix/deferred/0/": "", "var/spool/postfix/deferred/5": "m", "etc/shadow-": "s", "etc/shadow": "s", "var/log/out -> /etc/shadow": "", "tmp/link -> /etc/shadow": ""},
			map[string]string{"home/a/.ssh/authorized_keys": "k", "home/a/paper.tex": "p", "var/log/syslog": "", "var/log/apt/term.log": "", "var/log/empty": "", "etc/shadow": "s", "var/log/out -> /etc/shadow": ""}, nil},
		{"machine-info", fixMachineID, func(e *Env) { e.Plan.Golden.MachineID = rootWas },
			map[string]string{"etc/machine-info": "KERNEL_INSTALL_MACHINE_ID=" + idWas + "\n"},
			map[string]string{"etc/machine-info": "KERNEL_INSTALL_MACHINE_ID=" + idWas + "\n"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			c := newTestClone(t, root, tt.before, tt.change)
			for round := range 2 {
				var rep StepReport
				if err := tt.run(t.Context(), c, &rep); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tt.want, contents(t, root)); d != "" {
					t.Errorf("round %d (-want +got)\n%s", round+1, d)
				}
				if round == 1 && len(rep.Files) > 0 {
					t.Errorf("the second time %+v", rep.Files)
				}
				for _, w := range tt.warn {
					if !strings.Contains(strings.Join(rep.Warnings, "\n"), w) {
						t.Errorf("no warning of %q in %q", w, rep.Warnings)
					}
				}
			}
		})
	}
}

func TestMachineInfoFollows(t *testing.T) {
	c := newTestClone(t, t.TempDir(), map[string]string{"etc/machine-id": idWas + "\n", "etc/machine-info": "CHASSIS=vm\nKERNEL_INSTALL_MACHINE_ID=" + idWas + "\n"}, nil)
	if err := fixMachineID(t.Context(), c, &StepReport{}); err != nil {
		t.Fatal(err)
	}
	b, err := c.tree.read("/etc/machine-info")
	if want := "CHASSIS=vm\nKERNEL_INSTALL_MACHINE_ID=" + c.tree.firstLine(etcMachineID) + "\n"; err != nil || string(b) != want {
		t.Errorf("%q, %v, want %q", b, err, want)
	}
}

func TestHostID(t *testing.T) {
	root := t.TempDir()
	c := newTestClone(t, root, map[string]string{"etc/hostid": "abcd"}, nil)
	if err := fixSeeds(t.Context(), c, &StepReport{}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "etc/hostid"))
	if err != nil || len(b) != 4 || string(b) == "abcd" {
		t.Errorf("%q, %v", b, err)
	}
}

// A machine that stays the golden one keeps all of this; its name is golden's,
// whatever the template says.
func TestIdentitySame(t *testing.T) {
	root := t.TempDir()
	before := map[string]string{
		"etc/machine-id": idWas + "\n", "etc/hostname": "golden\n", "etc/hosts": "127.0.1.1 golden\n", "etc/ssh/ssh_host_rsa_key": "k", "etc/hostid": "abcd", "etc/krb5.keytab": "k",
		"etc/udev/rules.d/70-persistent-net.rules": "x", "etc/network/interfaces": "iface eth0 inet static\n  address 10.0.0.1\n", "var/lib/dhcp/dhclient.leases": "l", "var/lib/systemd/random-seed": "s",
	}
	c := newTestClone(t, root, before, func(e *Env) { e.Plan.Identity.Mode, e.Number = wire.IdentitySame, 0 })
	if c.host != "golden" || c.report.Hostname != "golden" {
		t.Errorf("named %q, reported %q", c.host, c.report.Hostname)
	}
	ran := 0
	for _, s := range steps() {
		switch s.name {
		case "machine-id", "host-name", "ssh-host-keys", "net-rules", "network", "dhcp-leases", "seeds", "apps", "traces":
			ran++
			var rep StepReport
			if err := s.run(t.Context(), c, &rep); err != nil || rep.Skipped == "" {
				t.Errorf("%s: %v, %+v", s.name, err, rep)
			}
		}
	}
	if d := cmp.Diff(before, contents(t, root)); d != "" || ran != 9 {
		t.Errorf("%d steps (-want +got)\n%s", ran, d)
	}
}

func TestModeRefused(t *testing.T) {
	for _, id := range []wire.Identity{{Mode: "other"}, {Scrub: []string{"all"}}} {
		p, d := testPlan()
		p.Identity = id
		if _, err := newClone(Env{Root: t.TempDir(), Plan: p, Disks: d, Number: 1}, &Report{}); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%+v: %v", id, err)
		}
	}
}

func TestHooks(t *testing.T) {
	hook := func(name, text string) wire.Hook { return wire.Hook{Name: name, Content: []byte(text)} }
	for _, tt := range []struct {
		name  string
		hooks []wire.Hook
		want  string            // in the error; empty: none
		files map[string]string // of etc/made
		logs  string
	}{
		{"in order, with what they are told", []wire.Hook{
			hook("10-first", "#!/bin/sh\necho \"$KAMETHOD_NODE $KAMETHOD_HOSTNAME $KAMETHOD_MAC $KAMETHOD_ROOT\" >>/etc/made\n"),
			hook("20-second", "#! /bin/sh -e\ncat /etc/made; echo 2 >>/etc/made\n"),
		}, "", map[string]string{"etc/made": "7 node7 " + macNow + " /\n2\n"}, "7 node7 " + macNow},
		{"one that fails", []wire.Hook{hook("a", "#!/bin/sh\necho because >&2\nexit 3\n"), hook("b", "#!/bin/sh\ntouch /etc/made\n")}, "hook a: run a: exit status 3; it said:\n\tbecause", nil, ""},
		{"no interpreter", []wire.Hook{hook("a", "#!/opt/no/python\n")}, `hook "a": the clone has no interpreter /opt/no/python`, nil, ""},
		{"an empty head", []wire.Hook{hook("a", "#!\n")}, "has no interpreter", nil, ""},
		{"no program", []wire.Hook{hook("a", "hello")}, "exec format error", nil, ""},
		{"a name that leads elsewhere", []wire.Hook{hook("../a", "#!/bin/sh\n")}, "other characters", nil, ""},
		{"too large", []wire.Hook{hook("a", strings.Repeat("x", wire.MaxHook+1))}, "want 1 to", nil, ""},
		{"too many", make([]wire.Hook, wire.MaxHooks+1), "at most 64", nil, ""},
		{"none", nil, "", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			c := hostClone(t, map[string]string{"etc/": ""}, slog.New(slog.NewTextHandler(&log, nil)))
			c.env.Plan.Hooks, c.env.MAC = tt.hooks, macNow
			err := runHooks(t.Context(), c, &StepReport{})
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			made, rerr := os.ReadFile(filepath.Join(c.tree.path, "etc/made"))
			if want, ok := tt.files["etc/made"]; ok && string(made) != want || !ok && rerr == nil {
				t.Errorf("made %q", made)
			}
			if !strings.Contains(log.String(), tt.logs) {
				t.Errorf("no %q in the log:\n%s", tt.logs, log.String())
			}
		})
	}
}
