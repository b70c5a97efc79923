package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfig: clone_script's own line of the manual, what is taken from this
// machine, and what is written.
func TestConfig(t *testing.T) {
	o := newOffice(t)
	out, _ := o.run(0, "config", "dhcpd", "-p", "10.0.1.21", "-w", "10.0.1.253", "-n", "10.0.1", "-s", "10.0.1.253", "-t", "10.0.1.22")
	for _, want := range []string{"subnet 10.0.1.0 netmask 255.255.255.0 {", "option routers 10.0.1.253;", "option domain-name-servers 10.0.1.253;",
		"next-server 10.0.1.22;", "range 10.0.1.128 10.0.1.252;", `filename "pxelinux.0";`, `filename "shimx64.efi";`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "10.78.") {
		t.Errorf("of this machine, though all was said:\n%s", out)
	}
	o.ip("-n", o.golden, "route", "add", "default", "via", "10.78.0.254")
	out, _ = o.run(0, "config", "dhcpd", "-s", "none", "--domain", "lab.example")
	for _, want := range []string{"eth0", "subnet 10.78.0.0 netmask 255.255.255.0 {", "option routers 10.78.0.254;", "next-server 10.78.0.1;", `option domain-name "lab.example";`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "domain-name-servers") {
		t.Errorf("a name server, though none is wanted:\n%s", out)
	}
	if out, _ := o.run(0, "config", "kea", "-w", "none", "--from", "10.78.0.7", "--to", "10.78.0.9"); strings.Contains(out, `"routers"`) || !strings.Contains(out, `"pool": "10.78.0.7 - 10.78.0.9"`) {
		t.Errorf("without a gateway:\n%s", out)
	}

	nodes := filepath.Join(o.dir, "nodes.yaml")
	put := func(label string) {
		t.Helper()
		if err := os.WriteFile(nodes, []byte("- {mac: 52:54:00:00:00:01, name: alpha, node_id: 7, label: "+label+"}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("kamethod")
	all := []string{"config", "all", "--nodes-file", nodes, "--out", "site"}
	out, _ = o.run(0, all...)
	for _, name := range []string{"dhcpd.conf", "dnsmasq.conf", "kea-dhcp4.conf", "pxe.conf", "xinetd.d/tftp", "default/tftpd-hpa", "messages", "help.txt",
		"pxelinux.cfg/default", "pxelinux.cfg/01-52-54-00-00-00-01", "grub/grub.cfg", "grub/grub.cfg-01-52:54:00:00:00:01", "boot.ipxe", "boot.ipxe-01-52-54-00-00-00-01"} {
		if st, err := os.Stat(filepath.Join(o.dir, "site", name)); err != nil || st.Size() == 0 || st.Mode().Perm() != 0o644 || !strings.Contains(out, "site/"+name+"\n") {
			t.Errorf("%v, %s isn't written, or isn't told:\n%s", err, name, out)
		}
	}
	put("local")
	o.run(0, all...)
	file := filepath.Join(o.dir, "site/pxelinux.cfg/01-52-54-00-00-00-01")
	for name, want := range map[string]string{file: "DEFAULT local\n", file + ".sav": "DEFAULT kamethod\n"} {
		if b, err := os.ReadFile(name); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v, want %q in\n%s", name, err, want, b)
		}
	}
	// What was there first stays, as private as it was, however often; what is
	// kept already isn't kept again.
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"dolly", "local", "dolly", "local", "kamethod"} {
		put(label)
		o.run(0, all...)
	}
	for name, want := range map[string]string{file: "kamethod 640", file + ".sav": "kamethod 644", file + ".sav.2": "local 640", file + ".sav.3": "dolly 640"} {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		label, mode, _ := strings.Cut(want, " ")
		if b, err := os.ReadFile(name); err != nil || !strings.Contains(string(b), "DEFAULT "+label+"\n") || fmt.Sprintf("%o", st.Mode().Perm()) != mode {
			t.Errorf("%s: %v, mode %v, want %s in\n%s", name, err, st.Mode(), want, b)
		}
	}
	if _, err := os.Stat(file + ".sav.4"); err == nil {
		t.Error("the same is kept twice")
	}
	if saved, err := filepath.Glob(filepath.Join(o.dir, "site/d*.sav")); err != nil || len(saved) > 0 {
		t.Errorf("kept, though nothing has changed: %v, %v", saved, err)
	}

	for _, bad := range []struct {
		want string
		args []string
	}{
		{"config of what?", []string{"config"}}, {`config "bind": want dhcpd`, []string{"config", "bind"}}, {`"10.0.1.300"`, []string{"config", "dhcpd", "-p", "10.0.1.300"}},
		{`network "10.0.1.5/24"`, []string{"config", "dhcpd", "-n", "10.0.1.5/24"}}, {`network "10.0.x"`, []string{"config", "dhcpd", "-n", "10.0.x"}},
		{"nodes.yaml:2:", []string{"config", "pxelinux", "--nodes-file", "twice/nodes.yaml"}}, {"no interface nope0", []string{"config", "pxe", "--interface", "nope0"}},
		{"gateway (-w) 10.0.1.1 is not in the network", []string{"config", "dhcpd", "-w", "10.0.1.1"}},
	} {
		if err := os.MkdirAll(filepath.Join(o.dir, "twice"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.dir, "twice/nodes.yaml"), []byte("- mac: 52:54:00:00:00:01\n- mac: 52:54:00:00:00:01\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, say := o.run(2, bad.args...); !strings.Contains(say, bad.want) {
			t.Errorf("%v says %q, want %q", bad.args, say, bad.want)
		}
	}
}

// TestConfigInstall: -I prints the distribution's own command, with packages
// that it has.
func TestConfigInstall(t *testing.T) {
	c := exec.Command(os.Args[0], "config", "all", "-I")
	c.Env = append(os.Environ(), asMain+"=1")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	w := strings.Fields(string(out))
	if b, err := os.ReadFile("/etc/debian_version"); err != nil || len(b) == 0 {
		if !strings.Contains(string(out), "install") {
			t.Errorf("config all -I says\n%s", out)
		}
		return
	}
	if len(w) < 8 || w[0] != "apt-get" || w[1] != "install" || strings.Count(string(out), "\n") != 1 {
		t.Fatalf("config all -I says\n%s", out)
	}
	if lists, err := filepath.Glob("/var/lib/apt/lists/*_Packages*"); err != nil || len(lists) == 0 {
		t.Skip("this machine has no lists of packages to compare them with: apt-get update gets them")
	}
	known, err := exec.Command("apt-cache", append([]string{"show", "--no-all-versions"}, w[2:]...)...).CombinedOutput()
	for _, p := range w[2:] {
		if !strings.Contains("\n"+string(known), "\nPackage: "+p+"\n") {
			t.Errorf("no package %s: %v", p, err)
		}
	}
}
