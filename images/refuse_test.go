package images

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What golden-serve clone refuses before anything is started: exit status 2,
// and a sentence that names the thing.
func TestCloneRefusals(t *testing.T) {
	r := newRoom(t, 1)
	root := filepath.Join(r.dir, "root")
	writeAll(t, r.dir, map[string]string{
		"good.desc": "linux 1000\nswap fill\n", "bad.desc": "linux 1000\nlinus 500\n",
		"root/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", "root/etc/hostname": "golden\n", "root/usr/bin/true": "", "root/sbin/init": "",
		"root/usr/lib/grub/i386-pc/modinfo.sh": "", "root/boot/vmlinuz": "",
		"grubless/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", "grubless/usr/bin/true": "", "grubless/sbin/init": "",
		"images/rescue.sqfs": "not really", "images/tftp/pxelinux.0": "x", "images/tftp/ldlinux.c32": "x",
		"images/tftp/images/vmlinuz": "x", "images/tftp/images/all.rdz": "x",
		"bare/rescue.sqfs": "x", "bare/tftp/pxelinux.0": "x", "macs": "nonsense\n", "nomacs": "# nobody\n",
	})
	good, bad := filepath.Join(r.dir, "good.desc"), filepath.Join(r.dir, "bad.desc")
	base := []string{"-n", "1", "--images", "images", "--yes", "--dhcp", "off"}
	with := func(more ...string) []string { return append(append([]string{}, base...), more...) }
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"nothing that boots", with("--root", filepath.Join(r.dir, "grubless"), "-p", "sda", good), []string{"no machine could boot as a clone", "grub-pc-bin", "efi 512", "-r none"}},
		{"malformed desc", with("--root", root, "-p", "sda", bad), []string{"bad.desc:2", `"linus"`}},
		{"no desc file", with("--root", root, "-p", "sda", "nowhere"), []string{"nowhere", "no such file"}},
		{"folder without desc", with("--root", root), []string{"-p DISK DESC", "-p LAYOUT.yaml"}},
		{"no root", with("--root", filepath.Join(r.dir, "images"), "-p", "sda", good), []string{"no root file system"}},
		{"root that is not there", with("--root", filepath.Join(r.dir, "gone"), "-p", "sda", good), []string{"gone"}},
		{"no images", with("--images", "nowhere", "--root", root, "-p", "sda", good), []string{"rescue.sqfs", "make image"}},
		{"half the images", with("--images", "bare", "--root", root, "-p", "sda", good), []string{"ldlinux.c32", "make image"}},
		{"loader", with("--root", root, "-p", "sda", good, "-r", "lilo2"), []string{`"lilo2"`}},
		{"loader module", with("--root", root, "-p", "sda", good, "-r", "grub --without=x"), []string{`"--without=x"`}},
		{"host name", with("--root", root, "-p", "sda", good, "--hostname", "a b"), []string{`"a b"`}},
		{"macs", with("--root", root, "-p", "sda", good, "--macs", "macs"), []string{`"nonsense"`}},
		{"no macs", with("--root", root, "-p", "sda", good, "--macs", "nomacs"), []string{"names no machine"}},
		{"dhcp mode", with("--root", root, "-p", "sda", good, "--dhcp", "maybe"), []string{`"maybe"`}},
		{"session", with("--root", root, "-p", "sda", good, "-s", "two words"), []string{`"two words"`}},
		{"nodes", []string{"--root", root, "-p", "sda", good}, []string{"give -n N"}},
		{"-p without a file", with("--root", root, "-p", "sda"), []string{"-p sda", "desc file"}},
		{"nobody comes", with("--root", root, "-p", "sda", good, "--wait", "1s"), []string{"too few nodes came: 0 of 1"}},
	} {
		p := r.start(r.name, r.golden, "golden-serve", c.args...)
		p.wantExit(t, 2)
		for _, w := range c.want {
			if !strings.Contains(p.out.String(), w) {
				t.Errorf("%s: want %q in:\n%s", c.name, w, p.out)
			}
		}
	}
}

// Full mode gives way to a DHCP server that is there already, by name.
func TestCloneRefusesASecondDHCPServer(t *testing.T) {
	r := newRoom(t, 1)
	smallRoot(t, r.dir)
	writeAll(t, r.dir, map[string]string{
		"images/rescue.sqfs": "x", "images/tftp/pxelinux.0": "x", "images/tftp/ldlinux.c32": "x",
		"images/tftp/images/vmlinuz": "x", "images/tftp/images/all.rdz": "x",
	})
	other := r.startHost(0, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces",
		"--dhcp-range=10.78.0.100,10.78.0.120,1h", "--dhcp-leasefile="+filepath.Join(r.dir, "leases"), "--user=root", "--no-ping",
		"--dhcp-authoritative")
	time.Sleep(time.Second)
	g := r.start(r.name, r.golden, "golden-serve", "-n", "1", "--images", "images", "--yes", "--dhcp", "full",
		"--root", "root", "-p", "sda", "desc")
	g.wantExit(t, 2)
	if !strings.Contains(g.out.String(), "10.78.0.11") {
		t.Errorf("golden-serve does not name the other server 10.78.0.11:\n%s\ndnsmasq:\n%s", g.out, other.out)
	}
}
