package fixup

import (
	"context"
	"encoding/base64"
	"fmt"
	"path"
	"strings"
)

// fixHostKeys replaces the ssh host keys, by keys of the same types. Each is
// made under another name first: a node that stops in between has golden's
// keys or its own, and a second run sees which types there are to be.
func fixHostKeys(ctx context.Context, c *clone, rep *StepReport) error {
	if err := c.dropbearKeys(ctx, rep); err != nil {
		return err
	}
	keys := c.tree.glob("/etc/ssh/ssh_host_*_key")
	if len(keys) == 0 && len(rep.Files) == 0 {
		rep.Skipped = "the golden node has no ssh host keys"
		return nil
	}
	_, canMake := c.tree.program("ssh-keygen")
	if canMake && len(keys) > 0 {
		if err := c.chroot.open(); err != nil {
			return err
		}
	}
	for _, key := range keys {
		kind := strings.TrimSuffix(strings.TrimPrefix(path.Base(key), "ssh_host_"), "_key")
		if err := c.newHostKey(ctx, rep, key, kind, canMake); err != nil {
			return err
		}
	}
	if !canMake && len(keys) > 0 {
		rep.warn("the clone has no ssh-keygen: golden's host keys are removed, sshd has none until somebody makes them")
	}
	for _, cert := range c.tree.glob("/etc/ssh/ssh_host_*-cert.pub") {
		rep.warn("%s is golden's certificate and is removed; have the new key signed", cert)
	}
	if err := c.remove(rep, "certificate of golden's key", "/etc/ssh/ssh_host_*-cert.pub"); err != nil {
		return err
	}
	return nil
}

// dropbearKeys are the keys of the small ssh server, also of that in an initrd
// (dropbear-initramfs), which is made with them.
func (c *clone) dropbearKeys(ctx context.Context, rep *StepReport) error {
	var keys []string
	for _, p := range []string{"/etc/dropbear/dropbear_*_host_key", "/etc/dropbear/initramfs/dropbear_*_host_key", "/etc/dropbear-initramfs/dropbear_*_host_key"} {
		keys = append(keys, c.tree.glob(p)...)
	}
	if len(keys) == 0 {
		return nil
	}
	_, canMake := c.tree.program("dropbearkey")
	for _, key := range keys {
		if !canMake {
			rep.warn("the clone has no dropbearkey: golden's %s is removed", key)
			if err := c.remove(rep, "golden's key", key); err != nil {
				return err
			}
			continue
		}
		kind := strings.TrimSuffix(strings.TrimPrefix(path.Base(key), "dropbear_"), "_host_key")
		fresh := path.Join(path.Dir(key), ".kamethod_"+kind)
		if err := c.remove(rep, "left by an interrupted run", fresh); err != nil {
			return err
		}
		if err := c.chroot.run(ctx, "dropbearkey", "-t", kind, "-f", fresh); err != nil {
			if ctx.Err() != nil {
				return err
			}
			rep.warn("no new key of type %s: %v", kind, err)
			if err := c.remove(rep, "golden's key", key); err != nil {
				return err
			}
			continue
		}
		pub, err := c.dropbearPublic(ctx, fresh)
		if err != nil {
			return err
		}
		if err := c.tree.rename(fresh, key); err != nil {
			return err
		}
		c.report.HostKeys = append(c.report.HostKeys, pub)
		rep.touch(key, "new key")
	}
	return nil
}

// dropbearPublic is a key's public part, as ssh has it in its files.
func (c *clone) dropbearPublic(ctx context.Context, key string) (string, error) {
	said, err := c.chroot.ask(ctx, "", "dropbearkey", "-y", "-f", key)
	if err != nil {
		return "", err
	}
	pub, ok := publicKey(said)
	if !ok {
		return "", fmt.Errorf("dropbearkey printed no public key of %s", key)
	}
	return pub + " root@" + c.host, nil
}

// publicKey is the type and the key of what dropbearkey prints: in the middle
// of other lines, with the name of the machine that it ran on.
func publicKey(said string) (string, bool) {
	for line := range strings.SplitSeq(said, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "ssh-") && !strings.HasPrefix(f[0], "ecdsa-") {
			continue
		}
		if b, err := base64.StdEncoding.DecodeString(f[1]); err == nil && len(b) > 0 {
			return f[0] + " " + f[1], true
		}
	}
	return "", false
}

// newHostKey makes one key and puts it in the old one's place; what can't be
// made (DSA is gone since OpenSSH 10) leaves nothing, for golden's can't stay.
func (c *clone) newHostKey(ctx context.Context, rep *StepReport, key, kind string, canMake bool) error {
	fresh := path.Join(path.Dir(key), ".kamethod_"+kind)
	if err := c.remove(rep, "left by an interrupted run", fresh, fresh+".pub"); err != nil {
		return err
	}
	if canMake {
		// Golden may have called a key anything: a name with no such type
		// is ssh-keygen's to refuse.
		err := c.chroot.run(ctx, "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "root@"+c.host, "-f", fresh)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			rep.warn("no new key of type %s: %v", kind, err)
			canMake = false
		}
	}
	if !canMake {
		return c.remove(rep, "golden's key", key, key+".pub")
	}
	pub, err := c.tree.read(fresh + ".pub")
	if err != nil {
		return err
	}
	if err := c.tree.rename(fresh, key); err != nil {
		return err
	}
	if err := c.tree.rename(fresh+".pub", key+".pub"); err != nil {
		return err
	}
	c.report.HostKeys = append(c.report.HostKeys, strings.TrimSpace(string(pub)))
	rep.touch(key, "new key")
	rep.touch(key+".pub", "new key")
	return nil
}
