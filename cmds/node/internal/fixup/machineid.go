package fixup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	etcMachineID  = "/etc/machine-id"
	dbusMachineID = "/var/lib/dbus/machine-id"
)

// fixMachineID gives the clone an id of its own. Clones with one id ask for
// one DHCP address (systemd-networkd's DUID comes from it) and mix journals.
// Where golden has none, or has "uninitialized", each clone's systemd makes
// its own at the first boot, machine-id(5), and that stays so.
//
// The boot loader's entries that are named by it are a later step's. The
// journal keeps golden's folder (/var/log/journal/ID): what golden has logged is
// golden's, and journald begins one of the clone's own.
func fixMachineID(_ context.Context, c *clone, rep *StepReport) error {
	if err := c.newMachine(rep); err != nil {
		return err
	}
	own := c.ownMachineID()
	_, err := c.editAll(rep, "the same id as "+etcMachineID, func(s string) string { return replaceMachine(s, own) },
		"/etc/machine-info", // KERNEL_INSTALL_MACHINE_ID=
		"/etc/kernel/install.conf")
	return err
}

func (c *clone) newMachine(rep *StepReport) error {
	etc, dbus := c.tree.firstLine(etcMachineID), c.tree.firstLine(dbusMachineID)
	if !isMachineID(etc) {
		return c.dropDbusID(rep, dbus)
	}
	if old := c.env.Plan.Golden.MachineID; old != "" && !strings.EqualFold(old, etc) {
		rep.Skipped = "the id isn't the golden node's any more"
		return c.sameDbusID(rep, etc)
	}
	id, err := newMachineID()
	if err != nil {
		return err
	}
	if err := c.tree.write(etcMachineID, []byte(id+"\n"), 0o444); err != nil {
		return err
	}
	rep.touch(etcMachineID, "new id")
	return c.sameDbusID(rep, id)
}

// sameDbusID lets D-Bus's own copy, where it is one and no link, say the same.
func (c *clone) sameDbusID(rep *StepReport, id string) error {
	if !c.tree.isFile(dbusMachineID) || c.tree.firstLine(dbusMachineID) == id {
		return nil
	}
	rep.touch(dbusMachineID, "the same id as "+etcMachineID)
	return c.tree.write(dbusMachineID, []byte(id+"\n"), 0o444)
}

// dropDbusID removes golden's id where /etc has none, because the first boot
// would take it from there. A system that has only D-Bus's gets a new one.
func (c *clone) dropDbusID(rep *StepReport, dbus string) error {
	if !isMachineID(dbus) {
		rep.Skipped = "the golden node has none, the first boot makes it"
		return nil
	}
	if c.tree.isFile(etcMachineID) { // empty or "uninitialized"
		rep.touch(dbusMachineID, "golden's id; the first boot makes a new one")
		return c.tree.remove(dbusMachineID)
	}
	if old := c.oldMachine; old != "" && !strings.EqualFold(old, dbus) {
		rep.Skipped = "the id isn't the golden node's any more"
		return nil
	}
	id, err := newMachineID()
	if err != nil {
		return err
	}
	rep.touch(dbusMachineID, "new id")
	return c.tree.write(dbusMachineID, []byte(id+"\n"), 0o444)
}

// isMachineID: 32 hexadecimal digits, machine-id(5).
func isMachineID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16
}

// newMachineID is random and, as machine-id(5) wants it, a valid UUID of
// version 4 (RFC 9562, section 5.4).
func newMachineID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a machine-id: %w", err)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:]), nil
}
