package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/vmlab"
)

// node is one machine of the rehearsal.
type node struct {
	r       *rehearsal
	spec    vmlab.Spec
	machine *vmlab.Machine
	poweron time.Time

	resets   atomic.Int32
	copying  sync.Mutex
	copyErr  error     // of the last copy; under copying
	resetAt  time.Time // of the last reset; under copying
	prompt   string    // host name in the log-in prompt
	problems []string  // what was seen from inside

	loginAfter time.Duration // since the last reset
}

// newNode gives the machines different disks, buses and network cards, so
// that the clones can't all be the same by accident. The cloud kernel knows
// virtio and the PIIX's IDE; the full one also real cards.
func (r *rehearsal) newNode(number int) *node {
	n := &node{r: r}
	n.spec = vmlab.Spec{
		Name: fmt.Sprintf("node%d", number), MAC: fmt.Sprintf("52:54:00:77:00:%02x", number),
		NIC: vmlab.VirtioNet, Bus: vmlab.VirtioBlk,
		Disk: r.path(fmt.Sprintf("node%d.img", number)), DiskSize: int64(2+number) << 30,
		OnReset: n.onReset, Firmware: r.Firmware, HTTPBoot: r.HTTPBoot,
	}
	if r.Cell != nil {
		n.spec.Disk, n.spec.DiskSize = "", 0
		for i, d := range r.Cell.Disks {
			d.File = r.path(fmt.Sprintf("node%d-%d.img", number, i))
			n.spec.More = append(n.spec.More, d)
			n.spec.DiskSize += d.Size
		}
		return n
	}
	if number%2 == 0 && r.Firmware == vmlab.BIOS {
		n.spec.Bus = vmlab.IDE
		if r.Kind == goldenroot.Full {
			n.spec.NIC, n.spec.Bus = vmlab.E1000, vmlab.AHCI
		}
	}
	return n
}

func (n *node) power(ctx context.Context, lab *vmlab.Lab) error {
	n.poweron = time.Now()
	m, err := lab.Power(ctx, n.spec)
	n.machine = m
	return err
}

// snapshot is the copy of the first disk at the last reset.
func (n *node) snapshot() string { return n.copies()[0] }

// copies are the copies of all disks.
func (n *node) copies() []string {
	var out []string
	for _, d := range n.spec.Disks() {
		out = append(out, strings.TrimSuffix(d.File, ".img")+".cloned.img")
	}
	return out
}

// onReset copies the disks while the machine stands still. Each reset replaces
// the copy: the last one is the reset before the clone's own first boot.
func (n *node) onReset() {
	n.copying.Lock()
	defer n.copying.Unlock()
	n.resetAt = time.Now()
	n.copyErr = nil
	for i, to := range n.copies() {
		from := n.spec.Disks()[i].File
		out, err := exec.Command("cp", "--sparse=always", "--reflink=auto", from, to+".new").CombinedOutput()
		if err != nil {
			n.copyErr = errors.Join(n.copyErr, fmt.Errorf("copy %s of %s: %w: %s", from, n.spec.Name, err, out))
			continue
		}
		n.copyErr = errors.Join(n.copyErr, os.Rename(to+".new", to))
	}
	n.r.say("%s resets itself (%d)", n.spec.Name, n.resets.Add(1))
}

// loginPrompt is agetty's: the host name, " login: ", at the line's start. The
// others are where a boot ends that goes no further, but for the question for
// a passphrase.
var loginPrompt = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9.-]*) login: |` +
	`Please unlock disk \w+:|^\(initramfs\) |^grub(?: rescue)?> |(?:Kernel panic.*)|(?:You are in emergency mode.*)`)

const unlockPrompt = "Please unlock disk "

func (n *node) waitLogin(ctx context.Context) error {
	m, err := n.machine.Console.ExpectPrompt(ctx, loginPrompt)
	if err == nil && strings.HasPrefix(m[0], unlockPrompt) {
		if err = n.machine.Console.Send(Passphrase + "\n"); err == nil {
			m, err = n.machine.Console.ExpectPrompt(ctx, loginPrompt)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: boot from its own disk: %w", n.spec.Name, err)
	}
	if m[1] == "" {
		return fmt.Errorf("%s: boot from its own disk: it ended at %q", n.spec.Name, m[0])
	}
	n.copying.Lock()
	defer n.copying.Unlock()
	n.prompt, n.loginAfter = m[1], time.Since(n.resetAt)
	return n.copyErr
}

// startAlone switches the machine off, and one with the same disk on that
// doesn't boot from the network and whose firmware has never seen that disk.
func (n *node) startAlone(ctx context.Context, lab *vmlab.Lab) error {
	n.machine.Kill()
	spec := n.spec
	spec.Name, spec.OwnDisk, spec.OnReset = spec.Name+"-alone", true, nil
	m, err := lab.Power(ctx, spec)
	if err != nil {
		return err
	}
	defer m.Kill()
	found, err := m.Console.ExpectPrompt(ctx, loginPrompt)
	if err != nil {
		return fmt.Errorf("%s: boot from its disk alone: %w", n.spec.Name, err)
	}
	if found[1] != n.prompt {
		return fmt.Errorf("%s: boot from its disk alone: it ended at %q", n.spec.Name, found[0])
	}
	return nil
}

// question is a command and what its one line of output must match.
type question struct{ ask, want string }

// questions are asked at the clone's own shell. Each prints one line.
var questions = []question{
	{`findmnt -no FSTYPE /`, `^ext4$`},
	{`findmnt -no TARGET /home`, `^/home$`},
	{`wc -l < /proc/swaps`, `^2$`}, // a headline and our swap partition
	{`systemctl is-active ssh`, `^active$`},
	{`systemctl --failed --plain --no-legend | wc -l`, `^0$`},
	{`cat /etc/machine-id | wc -c`, `^33$`},
}

// questionsUEFI are asked besides where a machine started by UEFI.
var questionsUEFI = []question{
	{`findmnt -no FSTYPE /boot/efi`, `^vfat$`},
	{`test -d /sys/firmware/efi && echo UEFI`, `^UEFI$`},
	{`ls /boot/efi/EFI/tools/a/b/c/d/e`, `^deep$`},
}

// lookInside logs in on the serial console and asks.
func (n *node) lookInside(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, fmt.Errorf("no answer from the shell of %s", n.spec.Name))
	defer cancel()
	c := n.machine.Console
	if err := c.Send("root\n"); err != nil {
		return err
	}
	if _, err := c.ExpectPrompt(ctx, regexp.MustCompile(`root@\S+:~# `)); err != nil {
		return fmt.Errorf("%s: log in: %w", n.spec.Name, err)
	}
	all := questions
	if n.r.Cell != nil {
		all = n.r.Cell.questions()
	} else if n.spec.Firmware != vmlab.BIOS {
		all = slices.Concat(questions, questionsUEFI)
	}
	for i, q := range all {
		// The terminal echoes the question; only the answer begins with "@@N ".
		if err := c.Send(fmt.Sprintf("echo \"@@%d $(%s)\"\n", i, q.ask)); err != nil {
			return err
		}
		m, err := c.Expect(ctx, regexp.MustCompile(fmt.Sprintf(`^@@%d (.*)$`, i)))
		if err != nil {
			return fmt.Errorf("%s: %s: %w", n.spec.Name, q.ask, err)
		}
		if !regexp.MustCompile(q.want).MatchString(strings.TrimSpace(m[1])) {
			n.problems = append(n.problems, fmt.Sprintf("at its shell, %s says %q, not %s", q.ask, m[1], q.want))
		}
	}
	return nil
}
