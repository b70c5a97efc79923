package fixup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// fixSeeds removes the secrets that the first boot makes anew, and replaces
// the storage names that nothing makes anew: two NVMe or iSCSI initiators of
// one name end each other's sessions, or write to one another's disks.
func fixSeeds(_ context.Context, c *clone, rep *StepReport) error {
	seeds := []string{
		"/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/var/lib/random-seed", "/var/lib/misc/random-seed", "/var/run/random-seed",
		"/var/lib/seedrng/seed.*", "/var/lib/systemd/loader/random-seed",
	}
	for _, dir := range append(c.bootFolders(), "/boot/efi", "/efi") {
		seeds = append(seeds, dir+"/loader/random-seed")
	}
	if err := c.remove(rep, "golden's random seed", seeds...); err != nil {
		return err
	}
	const secret = "/var/lib/systemd/credential.secret"
	if c.tree.isFile(secret) && len(c.tree.list("/etc/credstore.encrypted")) > 0 {
		rep.warn("/etc/credstore.encrypted has credentials that only golden can read, its key isn't cloned")
	}
	if err := c.remove(rep, "golden's credential key", secret); err != nil {
		return err
	}
	if err := c.newHostID(rep); err != nil {
		return err
	}
	return c.newInitiators(rep)
}

// newHostID: ZFS takes pools of another hostid for another machine's, and two
// machines of one hostid for one (hostid(5): 4 bytes).
func (c *clone) newHostID(rep *StepReport) error {
	const file = "/etc/hostid"
	if fi, err := c.tree.stat(file); err != nil || fi.Size() != 4 {
		return nil
	}
	var id [4]byte
	for id == [4]byte{} { // 0: none
		if _, err := rand.Read(id[:]); err != nil {
			return fmt.Errorf("make a host id: %w", err)
		}
	}
	rep.touch(file, "own host id")
	return c.tree.write(file, id[:], 0o644)
}

// newInitiators gives the storage clients names of their own.
func (c *clone) newInitiators(rep *StepReport) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("make a host id: %w", err)
	}
	var tail [6]byte
	if _, err := rand.Read(tail[:]); err != nil {
		return fmt.Errorf("make an initiator name: %w", err)
	}
	iqn := regexp.MustCompile(`(?m)^(\s*InitiatorName=iqn\.[0-9]{4}-[0-9]{2}\.[^:\s]+)(:\S*)?`)
	for _, f := range []struct {
		name   string
		change func(string) string
	}{
		// NVM Express base specification 2.0, section 4.5.
		{"/etc/nvme/hostnqn", func(string) string { return "nqn.2014-08.org.nvmexpress:uuid:" + id.String() + "\n" }},
		{"/etc/nvme/hostid", func(string) string { return id.String() + "\n" }},
		{"/etc/iscsi/initiatorname.iscsi", func(s string) string {
			return iqn.ReplaceAllString(s, "${1}:"+strings.ToLower(hex.EncodeToString(tail[:])))
		}},
	} {
		if _, err := c.edit(rep, f.name, "own initiator name", f.change); err != nil {
			return err
		}
	}
	return nil
}
