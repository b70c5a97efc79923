package fixup

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/golden/wire"
)

// contents are all files of a tree, links as "path -> target".
func contents(t testing.TB, root string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(p, root+"/")
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			m[name+" -> "+target] = ""
			return err
		}
		b, err := os.ReadFile(p)
		m[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// newTestClone is a clone of testPlan's golden node, its name node7.
func newTestClone(t testing.TB, root string, files map[string]string, change func(*Env)) *clone {
	t.Helper()
	plant(t, root, files)
	p, d := testPlan()
	env := Env{Root: root, Plan: p, Disks: d, Number: 7}
	if change != nil {
		change(&env)
	}
	c, err := newClone(env, &Report{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestTextSteps gives each step a small tree and compares all of it after one
// run and after a second.
func TestTextSteps(t *testing.T) {
	const own = "lease { fixed-address 10.0.0.9; }"
	for _, tt := range []struct {
		name         string
		run          func(context.Context, *clone, *StepReport) error
		before, want map[string]string
		warn         []string // each in some warning
	}{
		{"fstab", fixFstab,
			map[string]string{"etc/fstab": "/dev/sda1 / ext4 x 0 1\n"},
			map[string]string{"etc/fstab": "UUID=" + rootNow + " / ext4 x 0 1\nUUID=" + varNow + " /var ext3 defaults 0 2\nUUID=" + swapNow + " none swap sw 0 0\n"}, []string{"/var"}},
		{"no fstab", fixFstab, map[string]string{"etc/": ""},
			map[string]string{"etc/fstab": "UUID=" + rootNow + " / ext4 errors=remount-ro 0 1\nUUID=" + varNow + " /var ext3 defaults 0 2\nUUID=" + swapNow + " none swap sw 0 0\n"}, nil},
		{"host name", fixHostname,
			map[string]string{"etc/hostname": "golden\n", "etc/hosts": "127.0.1.1 golden\n10.0.0.1 golden\n", "etc/mailname": "golden.lan\n", "etc/machine-info": "PRETTY_HOSTNAME=\"golden\"\n"},
			map[string]string{"etc/hostname": "node7\n", "etc/hosts": "127.0.1.1 node7\n10.0.0.1 golden\n", "etc/mailname": "node7.lan\n", "etc/machine-info": "PRETTY_HOSTNAME=\"node7\"\n"},
			[]string{"10.0.0.1"}},
		{"host name, nothing there", fixHostname, map[string]string{"etc/": ""}, map[string]string{"etc/hostname": "node7\n"}, nil},
		{"net rules", fixNetRules,
			map[string]string{
				"etc/udev/rules.d/70-persistent-net.rules": "x", "etc/udev/rules.d/70-persistent-cd.rules": "x", "etc/udev/rules.d/60-mine.rules": "ATTR{address}==\"52:54:00:AA:bb:01\"",
				"etc/udev/rules.d/z25_persistent-net.rules -> /dev/null": "", "etc/default/grub": "GRUB_CMDLINE_LINUX=\"quiet ip=10.0.0.1::10.0.0.254:255.255.255.0:golden:eth0:off\"\n",
				"etc/systemd/network/10-lan.link": "[Match]\n#MACAddress=52:54:00:00:00:00\nMACAddress=52:54:00:00:00:01\n",
			},
			map[string]string{
				"etc/udev/rules.d/60-mine.rules":                         "ATTR{address}==\"52:54:00:AA:bb:01\"",
				"etc/udev/rules.d/z25_persistent-net.rules -> /dev/null": "", "etc/default/grub": "GRUB_CMDLINE_LINUX=\"quiet ip=10.0.0.1::10.0.0.254:255.255.255.0:golden:eth0:off\"\n",
			},
			[]string{"60-mine.rules:1 ", "grub:1 gives every clone"}},
		{"leases", fixLeases,
			map[string]string{"var/lib/dhcp/dhclient.leases": own, "var/lib/dhcp/dhclient.eth0.leases": own, "var/lib/dhcp/dhcpd.leases": own, "var/lib/dhcp/README": "r",
				"var/lib/NetworkManager/internal-1-eth0.lease": own, "var/lib/NetworkManager/secret_key": "k", "var/lib/NetworkManager/NetworkManager.state": "s", "var/lib/dhcpcd/eth0.lease": own, "etc/dhcpcd.duid": "d"},
			map[string]string{"var/lib/dhcp/dhcpd.leases": "", "var/lib/dhcp/README": "r", "var/lib/NetworkManager/NetworkManager.state": "s"}, nil},
		{"seeds", fixSeeds,
			map[string]string{"var/lib/systemd/random-seed": "s", "boot/efi/loader/random-seed": "s", "var/lib/systemd/credential.secret": "c", "etc/credstore.encrypted/tls": "x"},
			map[string]string{"etc/credstore.encrypted/tls": "x"}, nil},
		{"resume", fixResume,
			map[string]string{"etc/initramfs-tools/conf.d/resume": "RESUME=UUID=" + swapWas + "\n", "etc/initramfs-tools/initramfs.conf": "# RESUME=x\nRESUME=auto\n",
				"etc/default/grub": "# resume=/dev/sda5\nGRUB_CMDLINE_LINUX=\"console=ttyS0 resume=/dev/disk/by-id/foo root=/dev/sda1\"\nGRUB_X=\"noresume\"\n"},
			map[string]string{"etc/initramfs-tools/conf.d/resume": "RESUME=UUID=" + swapNow + "\n", "etc/initramfs-tools/initramfs.conf": "# RESUME=x\nRESUME=auto\n",
				"etc/default/grub": "# resume=/dev/sda5\nGRUB_CMDLINE_LINUX=\"console=ttyS0 resume=UUID=" + swapNow + " root=UUID=" + rootNow + "\"\nGRUB_X=\"noresume\"\n"}, nil},
		{"resume from a swap file", fixResume,
			map[string]string{"etc/initramfs-tools/conf.d/resume": "RESUME=UUID=" + rootWas + "\n", "etc/default/grub": "GRUB_CMDLINE_LINUX='resume=UUID=" + rootWas + " resume_offset=34816 quiet'\n"},
			map[string]string{"etc/initramfs-tools/conf.d/resume": "RESUME=none\n", "etc/default/grub": "GRUB_CMDLINE_LINUX='  quiet'\n"}, []string{"resume_offset=34816"}},
		{"uuids", fixUUIDs,
			map[string]string{"etc/systemd/system/x.mount": "What=/dev/disk/by-uuid/" + varWas + "\nAfter=dev-disk-by\\x2duuid-" + systemdEscape(varWas) + ".device\n",
				"etc/hdparm.conf": varWas + "1 x" + varWas + " PARTUUID=0-deadbeef-01" + "\n", "etc/grub.d/40_custom": "PARTUUID=deadbeef-01 deadbeef-011\n", "etc/unknown": varWas},
			map[string]string{"etc/systemd/system/x.mount": "What=/dev/disk/by-uuid/" + varNow + "\nAfter=dev-disk-by\\x2duuid-" + systemdEscape(varNow) + ".device\n",
				"etc/hdparm.conf": varWas + "1 x" + varWas + " PARTUUID=0-deadbeef-01" + "\n", "etc/grub.d/40_custom": "PARTUUID=11111111-01 deadbeef-011\n", "etc/unknown": varWas}, nil},
		{"entries", fixEntries,
			map[string]string{"boot/grub/grubenv": "saved_entry=gnulinux-advanced-" + rootWas + ">gnulinux-6.1-advanced-" + rootWas + "\n####"},
			map[string]string{"boot/grub/grubenv": "saved_entry=gnulinux-advanced-" + rootNow + ">gnulinux-6.1-advanced-" + rootNow + "\n####"}, nil},
		{"crypttab", fixStorage,
			map[string]string{"etc/crypttab": "# c\nc UUID=" + strings.ToUpper(varWas) + " none\n"},
			map[string]string{"etc/crypttab": "# c\nc UUID=" + varNow + " none\n"}, nil},
		{"no loader", fixMenu,
			map[string]string{"boot/grub/grub.cfg": "search " + rootWas + "\n"},
			map[string]string{"boot/grub/grub.cfg": "search " + rootNow + "\n"}, nil},
		{"no kernel, no loader", fixInitrd, map[string]string{"boot/x": ""}, map[string]string{"boot/x": ""}, nil},
		{"host keys, no ssh-keygen", fixHostKeys,
			map[string]string{"etc/ssh/ssh_host_rsa_key": "k", "etc/ssh/ssh_host_rsa_key.pub": "k", "etc/ssh/ssh_host_rsa_key-cert.pub": "k", "etc/ssh/sshd_config": "c"},
			map[string]string{"etc/ssh/sshd_config": "c"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			c := newTestClone(t, root, tt.before, nil)
			var rep StepReport
			if err := tt.run(t.Context(), c, &rep); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, contents(t, root)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if (len(rep.Files) > 0) == cmp.Equal(contents(t, root), tt.before) {
				t.Logf("before %q", tt.before)
				t.Errorf("reported %+v", rep.Files)
			}
			for _, w := range tt.warn {
				if !strings.Contains(strings.Join(rep.Warnings, "\n"), w) {
					t.Errorf("no warning of %q in %q", w, rep.Warnings)
				}
			}
			var again StepReport
			if err := tt.run(t.Context(), c, &again); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, contents(t, root)); d != "" || len(again.Files) > 0 {
				t.Errorf("the second time %+v (-want +got)\n%s", again.Files, d)
			}
		})
	}
}

func TestMachineID(t *testing.T) {
	id := regexp.MustCompile(`^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n$`)
	for _, tt := range []struct {
		name      string
		before    map[string]string
		etc, dbus string // "new": an id that isn't golden's; else as it is; "gone"
	}{
		{"systemd", map[string]string{"etc/machine-id": idWas + "\n"}, "new", "gone"},
		{"dbus's link", map[string]string{"etc/machine-id": idWas + "\n", "var/lib/dbus/machine-id -> /etc/machine-id": ""}, "new", "new"},
		{"dbus's copy", map[string]string{"etc/machine-id": idWas + "\n", "var/lib/dbus/machine-id": idWas + "\n"}, "new", "new"},
		{"uninitialized", map[string]string{"etc/machine-id": "uninitialized\n", "var/lib/dbus/machine-id": idWas + "\n"}, "uninitialized\n", "gone"},
		{"empty", map[string]string{"etc/machine-id": ""}, "", "gone"},
		{"dbus only", map[string]string{"var/lib/dbus/machine-id": idWas + "\n"}, "gone", "new"},
		{"none", map[string]string{"etc/": ""}, "gone", "gone"},
		{"a link to dbus's", map[string]string{"etc/machine-id -> ../var/lib/dbus/machine-id": "", "var/lib/dbus/machine-id": idWas + "\n"}, "new", "new"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newTestClone(t, t.TempDir(), tt.before, nil)
			look := func(when string) (found [2]string) {
				for i, w := range []struct{ name, want string }{{etcMachineID, tt.etc}, {dbusMachineID, tt.dbus}} {
					b, err := c.tree.read(w.name)
					found[i] = string(b)
					switch {
					case w.want == "gone":
						if err == nil {
							t.Errorf("%s: %s is there: %q", when, w.name, b)
						}
					case w.want == "new":
						if !id.Match(b) || strings.HasPrefix(string(b), idWas) {
							t.Errorf("%s: %s is %q", when, w.name, b)
						}
					case err != nil || string(b) != w.want:
						t.Errorf("%s: %s is %q, %v, want %q", when, w.name, b, err, w.want)
					}
				}
				if tt.etc == "new" && tt.dbus == "new" && found[0] != found[1] {
					t.Errorf("%s: two ids, %q", when, found)
				}
				return found
			}
			if err := fixMachineID(t.Context(), c, &StepReport{}); err != nil {
				t.Fatal(err)
			}
			once := look("once")
			if err := fixMachineID(t.Context(), c, &StepReport{}); err != nil {
				t.Fatal(err)
			}
			if twice := look("twice"); twice != once {
				t.Errorf("a second run changed %q to %q", once, twice)
			}
		})
	}
}

func TestInitiatorsDiffer(t *testing.T) {
	before := map[string]string{
		"etc/nvme/hostnqn":              "nqn.2014-08.org.nvmexpress:uuid:" + rootWas + "\n",
		"etc/nvme/hostid":               rootWas + "\n",
		"etc/iscsi/initiatorname.iscsi": "## c\nInitiatorName=iqn.1993-08.org.debian:01:abcdef\n",
	}
	var seen [2]map[string]string
	for i := range seen {
		root := t.TempDir()
		if err := fixSeeds(t.Context(), newTestClone(t, root, before, nil), &StepReport{}); err != nil {
			t.Fatal(err)
		}
		seen[i] = contents(t, root)
	}
	for name, was := range before {
		a, b := seen[0][name], seen[1][name]
		if a == was || b == was || a == b {
			t.Errorf("%s: golden %q, clones %q and %q", name, was, a, b)
		}
	}
	want := regexp.MustCompile(`^## c\nInitiatorName=iqn\.1993-08\.org\.debian:[0-9a-f]{12}\n$`)
	if got := seen[0]["etc/iscsi/initiatorname.iscsi"]; !want.MatchString(got) {
		t.Errorf("initiator %q", got)
	}
	if id := strings.TrimSpace(seen[0]["etc/nvme/hostid"]); !strings.HasSuffix(seen[0]["etc/nvme/hostnqn"], id+"\n") {
		t.Error("hostid and hostnqn have two UUIDs")
	}
}

func TestStepsRefuse(t *testing.T) {
	kernel := map[string]string{"boot/vmlinuz-6.1": "", "lib/modules/6.1/": ""}
	for _, tt := range []struct {
		name   string
		run    func(context.Context, *clone, *StepReport) error
		before map[string]string
		loader wire.Loader
		want   string
	}{
		{"no kernel", fixInitrd, map[string]string{"boot/vmlinuz-6.1": ""}, wire.Loader{Kind: "grub"}, "no kernel with modules"},
		{"no initramfs-tools", fixInitrd, kernel, wire.Loader{Kind: "grub", With: []string{"ahci"}}, "package initramfs-tools is missing"},
		{"no grub", fixLoader, kernel, wire.Loader{Kind: "grub"}, "package grub-pc"},
		{"unknown loader", fixLoader, kernel, wire.Loader{Kind: "milo"}, `"milo"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newTestClone(t, t.TempDir(), tt.before, func(e *Env) { e.Plan.Loader = tt.loader })
			err := tt.run(t.Context(), c, &StepReport{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestInitramfsText(t *testing.T) {
	if got, want := addModules("# c\nvirtio-blk x=1", []string{"virtio_blk", "ahci", "ahci"}), "# c\nvirtio-blk x=1\nahci\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := anyHardware("MODULES=dep\n#MODULES=dep\nMODULES=\"dep\"\nMODULES=list\nMODULES=depot\n"), "MODULES=most\n#MODULES=dep\nMODULES=most\nMODULES=list\nMODULES=depot\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c := newTestClone(t, t.TempDir(), nil, func(e *Env) { e.Plan.Loader.With = []string{"a b"} })
	if err := c.initramfsModules(&StepReport{}); err == nil {
		t.Error("took a module called \"a b\"")
	}
}

func TestCheckModules(t *testing.T) {
	c := newTestClone(t, t.TempDir(), map[string]string{
		"lib/modules/6.1/modules.dep":     "kernel/net/virtio-net.ko.xz: kernel/virtio.ko.xz\nkernel/x/xahci.ko:\n",
		"lib/modules/6.1/modules.builtin": "kernel/drivers/nvme.ko\n",
	}, func(e *Env) { e.Plan.Loader.With = []string{"virtio_net", "nvme", "ahci", "virt"} })
	var rep StepReport
	c.checkModules(&rep, []kernel{{version: "6.1"}})
	want := []string{"kernel 6.1 has no module ahci, its initrd is made without", "kernel 6.1 has no module virt, its initrd is made without"}
	if d := cmp.Diff(want, rep.Warnings); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestLeftovers(t *testing.T) {
	root := t.TempDir()
	c := newTestClone(t, root, map[string]string{
		"etc/a":                              "x\nUUID=" + strings.ToUpper(rootWas) + "\n",
		"etc/b/c":                            "golden goldenrod\n\ngolden\n",
		"etc/clean":                          rootNow + " www.golden golden2",
		"etc/binary":                         "golden\x00",
		"etc/large":                          strings.Repeat("golden\n", maxScanned/7+1),
		"etc/out -> /srv":                    "",
		"srv/d":                              "golden",
		"boot/loader/" + idWas + "-6.1.conf": "deadbeef-01",
	}, nil)
	if err := findLeftovers(t.Context(), c, &StepReport{}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/etc/a:2: golden's UUID " + rootWas,
		"/etc/b/c:1: golden's host name golden",
		"/etc/b/c:3: golden's host name golden",
		"/boot/loader/" + idWas + "-6.1.conf: name has golden's machine-id " + idWas,
		"/boot/loader/" + idWas + "-6.1.conf:1: golden's partition deadbeef-01",
	}
	if d := cmp.Diff(want, c.report.Leftovers); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	plant(t, root, map[string]string{"etc/many": strings.Repeat("golden\n", 2*maxLeftovers)})
	if err := findLeftovers(t.Context(), c, &StepReport{}); err != nil {
		t.Fatal(err)
	}
	if n := len(c.report.Leftovers); n != maxLeftovers+1 {
		t.Errorf("%d leftovers", n)
	}
}
