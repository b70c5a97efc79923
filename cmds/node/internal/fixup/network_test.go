package fixup

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/wire"
)

const (
	macWas = "52:54:00:aa:bb:01"
	macNow = "52:54:00:cc:dd:07"
)

func ownNetwork() []wire.Network {
	return []wire.Network{{MAC: macNow, Addresses: []string{"10.0.0.7/24"}, Gateway: "10.0.0.254", DNS: []string{"10.0.0.253", "10.0.0.252"}, Domain: "lan"}}
}

// TestNetwork gives each family's tree to both steps that are about cards and
// addresses, without and with an address of the node's own, and once more.
func TestNetwork(t *testing.T) {
	const (
		nm    = "etc/NetworkManager/system-connections/lan.nmconnection"
		ifcfg = "etc/sysconfig/network-scripts/ifcfg-"
		suse  = "etc/sysconfig/network/"
		udevd = "usr/lib/systemd/systemd-udevd"
	)
	addressOnly := []wire.Network{{MAC: macNow, Addresses: []string{"10.0.0.7/24"}}}
	for _, tt := range []struct {
		name         string
		nets         []wire.Network
		before, want map[string]string
		warn         []string
	}{
		{"ifupdown, DHCP", nil,
			map[string]string{"etc/network/interfaces": "# mine\nauto lo eth0 eth0:1\niface lo inet loopback\n\niface eth0 inet static\n\taddress 10.0.0.1\n\tnetmask 255.255.255.0\n\t# way out\n\tgateway 10.0.0.254\n\thwaddress ether " + macWas + "\n\tmtu 9000\niface eth0 inet6 static\n  address fd00::1/64\n\niface eth0:1 inet static\n  address 10.0.1.1/24\n"},
			map[string]string{"etc/network/interfaces": "# mine\nauto lo eth0\niface lo inet loopback\n\niface eth0 inet dhcp\n\t# way out\n\tmtu 9000\niface eth0 inet6 auto\n\n"},
			[]string{"interfaces: eth0 had golden's fixed address 10.0.0.1/24 and now asks DHCP", "eth0:1"}},
		{"ifupdown, own address", ownNetwork(),
			map[string]string{"etc/network/interfaces": "auto lo ens3\niface lo inet loopback\niface ens3 inet static\n  address 10.0.0.1/24\n  gateway 10.0.0.254\n  mtu 9000\n\n# end\n", udevd: "x"},
			map[string]string{"etc/network/interfaces": "auto lo ens3\niface lo inet loopback\niface ens3 inet static\n    address 10.0.0.7\n    netmask 255.255.255.0\n    gateway 10.0.0.254\n    dns-nameservers 10.0.0.253 10.0.0.252\n    dns-search lan\n  mtu 9000\n\n# end\n", udevd: "x",
				"etc/systemd/network/10-kamethod-ens3.link": "[Match]\nType=ether\nMACAddress=" + macNow + "\n\n[Link]\nName=ens3\n"}, nil},
		{"ifupdown, from DHCP, two addresses", []wire.Network{{MAC: macNow, Addresses: []string{"10.0.0.7/24", "10.1.0.7/16", "fd00::7/64"}}},
			map[string]string{"etc/network/interfaces": "auto eth0\niface eth0 inet dhcp\n"},
			map[string]string{"etc/network/interfaces": "auto eth0\niface eth0 inet static\n    address 10.0.0.7\n    netmask 255.255.255.0\niface eth0 inet static\n    address 10.1.0.7\n    netmask 255.255.0.0\niface eth0 inet6 static\n    address fd00::7\n    netmask 64\n"}, nil},
		{"ifupdown before systemd", nil,
			map[string]string{"etc/network/interfaces": "auto eth0\niface eth0 inet dhcp\n", "etc/udev/rules.d/70-persistent-net.rules": "x", "etc/iftab": "eth0 mac " + macWas + "\n"},
			map[string]string{"etc/network/interfaces": "auto eth0\niface eth0 inet dhcp\n", "etc/udev/rules.d/70-persistent-net.rules": "SUBSYSTEM==\"net\", ACTION==\"add\", ATTR{address}==\"" + macNow + "\", NAME=\"eth0\"\n"}, nil},
		{"NetworkManager, DHCP", nil,
			map[string]string{nm: "[connection]\nid=lan\nuuid=x\ntype=ethernet\ninterface-name=eth0\n\n[ethernet]\nmac-address=" + strings.ToUpper(macWas) + "\ncloned-mac-address=" + macWas + "\n\n[ipv4]\naddress1=10.0.0.1/24,10.0.0.254\ndns=10.0.0.253;\nmethod=manual\n\n[ipv6]\nmethod=auto\n"},
			map[string]string{nm: "[connection]\nid=lan\nuuid=x\ntype=ethernet\ninterface-name=eth0\n\n[ethernet]\nmac-address=" + strings.ToUpper(macNow) + "\n\n[ipv4]\nmethod=auto\ndns=10.0.0.253;\n\n[ipv6]\nmethod=auto\n"},
			[]string{"eth0 had golden's fixed address 10.0.0.1/24"}},
		{"NetworkManager, own address, golden's gateway", addressOnly,
			map[string]string{nm: "[connection]\ntype=ethernet\ninterface-name=ens3\n\n[ipv4]\naddresses1=10.0.0.1;24;10.0.0.254;\nmethod=manual\nmay-fail=false\n", "etc/NetworkManager/system-connections/vpn": "[connection]\ntype=wireguard\n[ipv4]\naddress1=10.9.0.1/24\nmethod=manual\n"},
			map[string]string{nm: "[connection]\ntype=ethernet\n\n[ipv4]\naddress1=10.0.0.7/24,10.0.0.254\nmethod=manual\nmay-fail=false\n\n[ethernet]\nmac-address=" + strings.ToUpper(macNow) + "\n", "etc/NetworkManager/system-connections/vpn": "[connection]\ntype=wireguard\n[ipv4]\naddress1=10.9.0.1/24\nmethod=manual\n"}, nil},
		{"NetworkManager, nothing there", ownNetwork(),
			map[string]string{"etc/NetworkManager/": "", "etc/systemd/system/multi-user.target.wants/NetworkManager.service -> /x": ""},
			map[string]string{"etc/systemd/system/multi-user.target.wants/NetworkManager.service -> /x": "", "etc/NetworkManager/system-connections/kamethod-525400ccdd07.nmconnection": "[connection]\nid=kamethod-525400ccdd07\ntype=ethernet\n\n[ethernet]\nmac-address=" + strings.ToUpper(macNow) +
				"\n\n[ipv4]\naddress1=10.0.0.7/24,10.0.0.254\ndns=10.0.0.253;10.0.0.252;\ndns-search=lan;\nmethod=manual\n\n[ipv6]\nmethod=auto\n"}, nil},
		{"NetworkManager, a fixed one beside DHCP's, and a shared one", nil,
			map[string]string{nm: "[connection]\ntype=ethernet\n[ipv4]\naddress1=10.0.0.1/24\nmethod=auto\n[ipv6]\nmethod=disabled\n", "etc/NetworkManager/system-connections/hot": "[connection]\ntype=wifi\n[ipv4]\naddress1=10.42.0.1/24\nmethod=shared\n"},
			map[string]string{nm: "[connection]\ntype=ethernet\n[ipv4]\nmethod=auto\n[ipv6]\nmethod=disabled\n", "etc/NetworkManager/system-connections/hot": "[connection]\ntype=wifi\n[ipv4]\naddress1=10.42.0.1/24\nmethod=shared\n"}, []string{"10.0.0.1/24"}},
		{"ifupdown, continued lines", nil,
			map[string]string{"etc/network/interfaces": "auto eth0 \\\n  eth0:1\niface eth0 inet \\\n  static\n address \\\n  10.0.0.1/24\n mtu 9000\niface eth0:1 inet static\n address 10.0.1.1/24\n"},
			map[string]string{"etc/network/interfaces": "auto eth0\niface eth0 inet    dhcp\n mtu 9000\n"}, []string{"10.0.0.1/24"}},
		{"netplan, DHCP", nil,
			map[string]string{"etc/netplan/50.yaml": "# cloud\nnetwork:\n  version: 2\n  ethernets:\n    lan:   # the card\n      match:\n        macaddress: " + macWas + "\n      set-name: eth0\n      addresses: [10.0.0.1/24]\n      gateway4: 10.0.0.254\n      mtu: 9000 # large\n    other:\n      dhcp4: true\n"},
			map[string]string{"etc/netplan/50.yaml": "# cloud\nnetwork:\n  version: 2\n  ethernets:\n    lan:   # the card\n      dhcp4: true\n      match:\n        macaddress: \"" + macNow + "\"\n      set-name: eth0\n      mtu: 9000 # large\n    other:\n      dhcp4: true\n"},
			[]string{"eth0 had golden's fixed address 10.0.0.1/24"}},
		{"netplan, own address", addressOnly,
			map[string]string{"etc/netplan/50.yaml": "network:\n  ethernets:\n    ens3:\n      addresses:\n      - 10.0.0.1/24\n      - \"fd00::1/64\":\n          lifetime: 0\n      routes:\n      - to: default\n        via: 10.0.0.254\n      - to: 10.9.0.0/16\n        via: 10.0.0.9\n      nameservers:\n        addresses: [10.0.0.253]\n"},
			map[string]string{"etc/netplan/50.yaml": "network:\n  ethernets:\n    ens3:\n      dhcp4: false\n      addresses:\n        - \"10.0.0.7/24\"\n      routes:\n        - to: \"0.0.0.0/0\"\n          via: \"10.0.0.254\"\n        - to: 10.9.0.0/16\n          via: 10.0.0.9\n      match:\n        macaddress: \"" + macNow + "\"\n      nameservers:\n        addresses: [10.0.0.253]\n"}, nil},
		{"netplan in braces", nil,
			map[string]string{"etc/netplan/50.yaml": "network: {ethernets: {ens3: {addresses: [10.0.0.1/24], mtu: 1400}}}\n"},
			map[string]string{"etc/netplan/50.yaml": "network: {ethernets: {ens3: {dhcp4: true, mtu: 1400}}}\n"}, []string{"10.0.0.1/24"}},
		{"networkd, DHCP", nil,
			map[string]string{"etc/systemd/network/lan.network": "[Match]\nMACAddress=" + macWas + "\n\n[Network]\nDNS=10.0.0.253\nAddress=10.0.0.1/24\nGateway=10.0.0.254\n\n[Address]\nAddress=10.0.1.1/24\n\n[Route]\nDestination=10.9.0.0/16\nGateway=10.0.0.9\n\n[Route]\nGateway=10.0.0.254\n",
				"etc/systemd/network/lan.link": "[Match]\nMACAddress=" + macWas + "\n[Link]\nName=lan0\n", "etc/systemd/network/br.netdev": "[NetDev]\nName=br0\nKind=bridge\nMACAddress=" + macWas + "\n"},
			map[string]string{"etc/systemd/network/lan.network": "[Match]\nMACAddress=" + macNow + "\n\n[Network]\nDHCP=yes\nDNS=10.0.0.253\n\n[Route]\nDestination=10.9.0.0/16\nGateway=10.0.0.9\n\n",
				"etc/systemd/network/lan.link": "[Match]\nMACAddress=" + macNow + "\n[Link]\nName=lan0\n", "etc/systemd/network/br.netdev": "[NetDev]\nName=br0\nKind=bridge\n"},
			[]string{"10.0.0.1/24"}},
		{"networkd, own address", ownNetwork(),
			map[string]string{"etc/systemd/network/lan.network": "[Match]\nName=en*\n\n[Network]\nDHCP=yes\nDNS=10.0.0.9\n"},
			map[string]string{"etc/systemd/network/lan.network": "[Match]\nMACAddress=" + macNow + "\n\n[Network]\nAddress=10.0.0.7/24\nGateway=10.0.0.254\nDNS=10.0.0.253\nDNS=10.0.0.252\nDomains=lan\n"}, nil},
		{"Red Hat, DHCP", nil,
			map[string]string{ifcfg + "eth0": "DEVICE=\"eth0\"\nONBOOT=yes\nBOOTPROTO=\"none\" # fixed\nIPADDR=10.0.0.1\nPREFIX=24\nGATEWAY=10.0.0.254\nHWADDR=" + strings.ToUpper(macWas) + "\nUUID=" + rootWas + "\nMTU=9000\n", ifcfg + "eth0:0": "DEVICE=eth0:0\nIPADDR=10.0.1.1\n", ifcfg + "lo": "DEVICE=lo\nIPADDR=127.0.0.1\n", "etc/sysconfig/network": "NETWORKING=yes\nGATEWAY=10.0.0.254\n"},
			map[string]string{ifcfg + "eth0": "DEVICE=\"eth0\"\nONBOOT=yes\nBOOTPROTO=dhcp\nHWADDR=" + macNow + "\nMTU=9000\n", ifcfg + "lo": "DEVICE=lo\nIPADDR=127.0.0.1\n", "etc/sysconfig/network": "NETWORKING=yes\n"},
			[]string{"eth0 had golden's fixed address 10.0.0.1/24"}},
		{"Mandriva, own address", ownNetwork(),
			map[string]string{ifcfg + "eth0": "DEVICE=eth0\nBOOTPROTO=static\nIPADDR=10.0.0.1\nNETMASK=255.255.255.0\nNETWORK=10.0.0.0\nBROADCAST=10.0.0.255\nONBOOT=yes\n", "etc/udev/rules.d/": "", "etc/sysconfig/network": "HOSTNAME=golden\nGATEWAY=10.0.0.254\n"},
			map[string]string{ifcfg + "eth0": "DEVICE=eth0\nBOOTPROTO=none\nIPADDR=10.0.0.7\nNETMASK=255.255.255.0\nGATEWAY=10.0.0.254\nDNS1=10.0.0.253\nDNS2=10.0.0.252\nDOMAIN=lan\nONBOOT=yes\nHWADDR=" + macNow + "\n",
				"etc/udev/rules.d/70-persistent-net.rules": "SUBSYSTEM==\"net\", ACTION==\"add\", ATTR{address}==\"" + macNow + "\", NAME=\"eth0\"\n", "etc/sysconfig/network": "HOSTNAME=golden\n"}, nil},
		{"SUSE, own address", ownNetwork(),
			map[string]string{suse + "ifcfg-eth0": "STARTMODE='auto'\nBOOTPROTO='static'\nIPADDR='10.0.0.1/24'\nIPADDR_x='10.0.1.1/24'\nLLADDR='" + macWas + "'\n", suse + "routes": "default 10.0.0.1 - -\n10.9.0.0/16 10.0.0.9 - -\n", suse + "config": "A=1\nNETCONFIG_DNS_STATIC_SERVERS=\"1.1.1.1\"\n"},
			map[string]string{suse + "ifcfg-eth0": "STARTMODE='auto'\nBOOTPROTO='static'\nIPADDR='10.0.0.7/24'\n", suse + "routes": "10.9.0.0/16 10.0.0.9 - -\ndefault 10.0.0.254 - -\n", suse + "config": "A=1\nNETCONFIG_DNS_STATIC_SERVERS=\"10.0.0.253 10.0.0.252\"\n"}, nil},
		{"SUSE, DHCP", nil,
			map[string]string{suse + "ifcfg-eth0": "BOOTPROTO='static'\nIPADDR='10.0.0.1/24'\nSTARTMODE='auto'\n", suse + "routes": "default 10.0.0.254 - -\n"},
			map[string]string{suse + "ifcfg-eth0": "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n", suse + "routes": ""}, []string{"10.0.0.1/24"}},
		{"a bridge has the address", addressOnly,
			map[string]string{"etc/network/interfaces": "auto br0\niface eth0 inet manual\niface br0 inet static\n  address 10.0.0.1/24\n  bridge_ports eth0\n"},
			map[string]string{"etc/network/interfaces": "auto br0\niface eth0 inet manual\niface br0 inet static\n    address 10.0.0.7\n    netmask 255.255.255.0\n  bridge_ports eth0\n"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			c := newTestClone(t, root, tt.before, func(e *Env) {
				e.MAC, e.MACs = macNow, []string{macNow}
				e.Plan.Golden.MACs = []string{macWas}
				e.Plan.Identity.Networks = tt.nets
			})
			var warnings []string
			for round := range 2 {
				for _, run := range []stepFunc{fixNetRules, fixNetwork} {
					var rep StepReport
					if err := run(t.Context(), c, &rep); err != nil {
						t.Fatal(err)
					}
					warnings = append(warnings, rep.Warnings...)
				}
				if d := cmp.Diff(tt.want, contents(t, root)); d != "" {
					t.Errorf("round %d (-want +got)\n%s", round+1, d)
				}
			}
			for _, w := range tt.warn {
				if !strings.Contains(strings.Join(warnings, "\n"), w) {
					t.Errorf("no warning of %q in %q", w, warnings)
				}
			}
			if len(tt.warn) == 0 && len(warnings) > 0 {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// FuzzNetwork: whatever golden's files have, no address of its own stays in
// what is known to be one, and a second run changes nothing more.
func FuzzNetwork(f *testing.F) {
	for i, text := range []string{
		"network:\n  ethernets:\n    ens3:\n      addresses: [10.0.0.1/24]\n      match: {macaddress: " + macWas + "}\n",
		"[connection]\ntype=ethernet\n[ethernet]\nmac-address=" + macWas + "\n[ipv4]\nmethod=manual\naddress1=10.0.0.1/24,10.0.0.254\n",
		"[Match]\nMACAddress=" + macWas + "\n[Network]\nAddress=10.0.0.1/24\n[Route]\nGateway=10.0.0.254",
		"DEVICE=eth0\nIPADDR='10.0.0.1'\nNETMASK=255.255.255.0\nHWADDR=" + macWas,
		"IPADDR_1='10.0.0.1/24'\nLLADDR=" + macWas,
		"auto eth0\niface eth0 inet static\n address 10.0.0.1\\\n\n# c\n  netmask 24\niface eth0 inet6 static\n address fd00::1\n",
	} {
		f.Add(uint8(i), text)
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		d := dialects()[int(which)%len(dialects())]
		for _, net := range []*wire.Network{nil, {MAC: macNow, Addresses: []string{"192.0.2.7/24", "2001:db8::7/64"}, Gateway: "192.0.2.1"}} {
			rewrite := func(text string) string {
				fs := fates{}
				for _, w := range d.parse("/x/ifcfg-eth0", text) {
					if !w.leave {
						fs[w.id] = fate{net: net, mac: macNow, dhcp: net == nil && len(w.fixed) > 0}
					}
				}
				out, _ := d.rewrite("/x/ifcfg-eth0", text, fs)
				return out
			}
			once := rewrite(text)
			for _, w := range d.parse("/x/ifcfg-eth0", once) {
				for _, p := range w.fixed {
					if !w.leave && (net == nil || !strings.Contains(strings.Join(net.Addresses, " "), p.String())) {
						t.Fatalf("%s: %v stays:\n%s\nbefore:\n%s", d.name, p, once, text)
					}
				}
			}
			if again := rewrite(once); again != once {
				t.Fatalf("%s: not the same the second time:\n%s", d.name, cmp.Diff(once, again))
			}
		}
	})
}

func TestCloudInitIsHeld(t *testing.T) {
	for _, tt := range []struct {
		name string
		nets []wire.Network
		more map[string]string
		want bool
	}{
		{"addressed", ownNetwork(), nil, true},
		{"by DHCP", nil, nil, false},
		{"disabled", ownNetwork(), map[string]string{"etc/cloud/cloud-init.disabled": ""}, false},
	} {
		root := t.TempDir()
		plant(t, root, map[string]string{"etc/cloud/cloud.cfg.d/": "", "usr/bin/": "", "etc/network/interfaces": "iface eth0 inet dhcp\n"})
		plant(t, root, tt.more)
		if err := os.WriteFile(root+"/usr/bin/cloud-init", []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		c := newTestClone(t, root, nil, func(e *Env) { e.Plan.Identity.Networks = tt.nets })
		if err := fixNetwork(t.Context(), c, &StepReport{}); err != nil {
			t.Fatal(err)
		}
		if got := c.tree.isFile("/etc/cloud/cloud.cfg.d/99-kamethod.cfg"); got != tt.want {
			t.Errorf("%s: held %v", tt.name, got)
		}
	}
}

// A node with two cards has nothing pinned by luck; each of golden's bound
// cards is replaced by the one in the same place.
func TestTwoCards(t *testing.T) {
	const second, secondNow = "52:54:00:aa:bb:02", "52:54:00:cc:dd:08"
	root := t.TempDir()
	c := newTestClone(t, root, map[string]string{
		"usr/lib/systemd/systemd-udevd":          "x",
		"etc/network/interfaces":                 "iface enp2s0 inet dhcp\n",
		"etc/systemd/network/a.network":          "[Match]\nMACAddress=" + second + "\n[Network]\nDHCP=yes\n",
		"etc/systemd/network/b.network":          "[Match]\nMACAddress=52:54:00:00:00:99\n[Network]\nDHCP=yes\n",
		"etc/systemd/network/lan.link":           "[Match]\nMACAddress=" + second + "\n[Link]\nName=lan\n",
		"etc/systemd/network/other-machine.link": "[Match]\nMACAddress=52:54:00:00:00:99\n[Link]\nName=x\n",
	}, func(e *Env) {
		e.MAC, e.MACs, e.Plan.Golden.MACs = macNow, []string{macNow, secondNow}, []string{macWas, second}
	})
	for _, run := range []stepFunc{fixNetRules, fixNetwork} {
		if err := run(t.Context(), c, &StepReport{}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"usr/lib/systemd/systemd-udevd": "x",
		"etc/network/interfaces":        "iface enp2s0 inet dhcp\n",
		"etc/systemd/network/a.network": "[Match]\nMACAddress=" + secondNow + "\n[Network]\nDHCP=yes\n",
		"etc/systemd/network/b.network": "[Match]\nType=ether\nName=en* eth*\n[Network]\nDHCP=yes\n",
		"etc/systemd/network/lan.link":  "[Match]\nMACAddress=" + secondNow + "\n[Link]\nName=lan\n",
	}
	if d := cmp.Diff(want, contents(t, root)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
