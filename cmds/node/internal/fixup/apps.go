package fixup

import (
	"context"
	"fmt"
	"path"
	"strings"
)

// app is a program that others know golden by: as a member of a cluster or
// domain, a subscriber, an agent with a key.
type app struct {
	name  string
	paths []string // patterns, of files and of folders; what is removed
	after string   // what a person has to do then
}

// apps is who makes two machines of one identity suspicious, or broken.
// Sources: virt-sysprep's operations; each program's own manual.
func apps() []app {
	return []app{
		{"cloud-init", []string{"/var/lib/cloud/instance", "/var/lib/cloud/instances", "/var/lib/cloud/data", "/var/lib/cloud/sem"}, "it runs as on a first boot"},
		{"Red Hat subscription", []string{"/etc/pki/consumer/*.pem", "/etc/pki/entitlement/*.pem", "/etc/sysconfig/rhn/systemid", "/etc/insights-client/machine-id", "/etc/insights-client/.registered"}, "subscription-manager register"},
		{"SUSE registration", []string{"/etc/zypp/credentials.d/SCCcredentials", "/etc/zypp/credentials.d/NCCcredentials"}, "SUSEConnect"},
		{"Ubuntu Pro", []string{"/var/lib/ubuntu-advantage/private/*"}, "pro attach"},
		{"Kerberos host keys", []string{"/etc/krb5.keytab"}, "join the realm"},
		{"FreeIPA client", []string{"/etc/ipa/default.conf", "/var/lib/ipa-client/sysrestore", "/var/lib/ipa-client/pki"}, "ipa-client-install"},
		{"SSSD", []string{"/var/lib/sss/db/*", "/var/lib/sss/mc/*", "/var/lib/sss/secrets/*"}, "it makes them anew"},
		{"Samba, domain membership", []string{"/var/lib/samba/private/secrets.tdb", "/var/lib/samba/secrets.tdb", "/etc/samba/secrets.tdb", "/var/lib/samba/private/*.ldb"}, "net ads join"},
		{"Kubernetes node", []string{"/var/lib/kubelet/pki", "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf", "/var/lib/etcd/member", "/var/lib/rancher/k3s/agent", "/etc/rancher/node/password", "/var/snap/microk8s/current/credentials"}, "kubeadm join"},
		{"Docker", []string{"/var/lib/docker/engine-id", "/etc/docker/key.json", "/var/lib/docker/swarm"}, "docker swarm join"},
		{"Puppet", []string{"/etc/puppetlabs/puppet/ssl", "/var/lib/puppet/ssl", "/etc/puppet/ssl", "/opt/puppetlabs/puppet/cache/state"}, "sign the new certificate"},
		{"Salt minion", []string{"/etc/salt/pki/minion", "/etc/salt/minion_id"}, "accept the new key"},
		{"Chef", []string{"/etc/chef/client.pem", "/etc/cinc/client.pem"}, "bootstrap the node"},
		{"CFEngine", []string{"/var/cfengine/ppkeys/localhost.*", "/var/lib/cfengine3/ppkeys/localhost.*"}, "cf-key"},
		{"Tailscale", []string{"/var/lib/tailscale/tailscaled.state"}, "tailscale up"},
		{"ZeroTier", []string{"/var/lib/zerotier-one/identity.*"}, "join the network"},
		{"WireGuard", []string{"/etc/wireguard/*.conf", "/etc/wireguard/*.key"}, "make new keys"},
		{"OpenVPN client", []string{"/etc/openvpn/client/*.key"}, "make new keys"},
		{"tinc", []string{"/etc/tinc/*/rsa_key.priv", "/etc/tinc/*/ed25519_key.priv"}, "make new keys"},
		{"MySQL or MariaDB server id", []string{"/var/lib/mysql/auto.cnf"}, "the server makes a new one"},
		{"Ceph", []string{"/var/lib/ceph/osd/*", "/var/lib/ceph/mon/*", "/etc/ceph/*.keyring"}, "add the node anew"},
		{"Consul", []string{"/opt/consul/node-id", "/var/lib/consul/node-id"}, "it makes a new one"},
		{"Nomad", []string{"/opt/nomad/data/client/client-id", "/var/lib/nomad/client/client-id"}, "it makes a new one"},
		{"Elasticsearch node id", []string{"/var/lib/elasticsearch/_state", "/var/lib/elasticsearch/nodes"}, "it makes a new one"},
		{"netdata", []string{"/var/lib/netdata/registry/netdata.public.unique.id", "/var/lib/netdata/cloud.d"}, "it makes a new one"},
		{"Wazuh agent", []string{"/var/ossec/etc/client.keys"}, "enrol the agent"},
		{"Landscape client", []string{"/var/lib/landscape/client/*"}, "landscape-config"},
		{"Zabbix pre-shared key", []string{"/etc/zabbix/*.psk"}, "make a new key"},
		{"snapd device", []string{"/var/lib/snapd/device"}, "it makes a new one"},
		{"self-made certificate", []string{"/etc/ssl/private/ssl-cert-snakeoil.key", "/etc/pki/tls/private/localhost.key"}, "make-ssl-cert generate-default-snakeoil"},
		{"AIDE database", []string{"/var/lib/aide/aide.db*"}, "aide --init"},
		{"popularity-contest", []string{"/etc/popularity-contest.conf"}, "dpkg-reconfigure popularity-contest"},
		{"smolt", []string{"/etc/smolt/uuid", "/etc/smolt/hw-uuid"}, "it makes a new one"},
		{"yum and dnf", []string{"/var/lib/yum/uuid"}, "it makes a new one"},
	}
}

// fixApps lists what programs know golden by, and removes it where that was
// asked for: a clone that replaces a member of a cluster may be meant to be it.
func fixApps(_ context.Context, c *clone, rep *StepReport) error {
	for _, a := range apps() {
		var found []string
		for _, p := range a.paths {
			for _, name := range c.globAll(p) {
				if !c.tree.isEmptyDir(name) {
					found = append(found, name)
				}
			}
		}
		if len(found) == 0 {
			continue
		}
		if !c.env.scrubApps() {
			rep.warn("%s: %s is golden's (--scrub apps removes it; then: %s)", a.name, strings.Join(found, ", "), a.after)
			continue
		}
		for _, name := range found {
			if err := c.removeAll(rep, name, a.name+": golden's; now "+a.after); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
		}
	}
	if len(rep.Files) == 0 && len(rep.Warnings) == 0 {
		rep.Skipped = "no program is known by which others know golden"
	}
	return nil
}

// globAll is glob with patterns in every part of the path.
func (c *clone) globAll(pattern string) []string {
	at := []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		var next []string
		for _, dir := range at {
			if !strings.ContainsAny(part, "*?[") {
				if name := path.Join(dir, part); c.tree.isLink(name) || c.tree.isFile(name) || c.tree.isDir(name) {
					next = append(next, name)
				}
				continue
			}
			next = append(next, c.tree.glob(path.Join(dir, part))...)
		}
		at = next
	}
	return at
}

func (t *tree) isEmptyDir(name string) bool { return t.isDir(name) && len(t.list(name)) == 0 }

// removeAll removes a file or link, or a folder with all that is in it; links
// in it are removed, and not followed.
func (c *clone) removeAll(rep *StepReport, name, why string) error {
	if err := c.tree.removeAll(name); err != nil {
		return err
	}
	rep.touch(name, why)
	return nil
}

func (t *tree) removeAll(name string) error {
	p, err := t.resolve(name, false)
	if err != nil {
		return err
	}
	if p == "." {
		return fmt.Errorf("remove %s: that is the clone", name)
	}
	if err := t.root.RemoveAll(p); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
