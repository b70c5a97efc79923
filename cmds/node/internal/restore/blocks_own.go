package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// Own makes what was copied as blocks the clone's own, where that can be done:
// a boot sector that knows where it lies, and a UUID that golden's hasn't. It
// says what it did; what it could not do is no error, for the contents are
// golden's all the same. It is called after Finish and Close; a plan whose
// identity is golden's wants the boot sector alone.
func Own(ctx context.Context, plan wire.Plan, made *wire.DiskResult, step func(string)) error {
	made.BlockUUIDs = make([]string, len(plan.Blocks))
	for i, b := range plan.Blocks {
		dev := made.Blocks[i]
		say := func(format string, args ...any) {
			step(fmt.Sprintf("blocks of %s on %s: ", b.On, dev) + fmt.Sprintf(format, args...))
		}
		did, err := ownStart(dev)
		if err != nil {
			return fmt.Errorf("blocks of %s on %s: %w", b.On, dev, err)
		}
		if did != "" {
			say("%s", did)
		}
		if plan.Identity.Mode == wire.IdentitySame {
			continue
		}
		uuid, err := newBlocksUUID(ctx, b.Type, dev)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("blocks of %s on %s: %w", b.On, dev, ctx.Err())
		case err != nil:
			say("the UUID is golden's: %v", err)
		case uuid != "":
			if err := syncDevice(dev); err != nil {
				return fmt.Errorf("blocks of %s on %s: %w", b.On, dev, err)
			}
			made.BlockUUIDs[i] = uuid
			say("%s with a UUID of its own, %s", b.Type, uuid)
		}
	}
	return nil
}

// syncDevice waits until all that programs wrote is on the disk: the next thing
// may be a reboot.
func syncDevice(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func ownStart(dev string) (string, error) {
	start, err := partitionStart(dev)
	if err != nil || start == 0 {
		return "", err
	}
	f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	did, err := fixStart(f, start)
	if err != nil || did == "" {
		return did, err
	}
	if err := f.Sync(); err != nil {
		return did, err
	}
	return did, f.Close()
}

// newBlocksUUID gives a file system another UUID and returns it; empty: of such
// a type none can be given.
func newBlocksUUID(ctx context.Context, fstype, dev string) (string, error) {
	was, err := blkidUUID(ctx, dev)
	if err != nil {
		return "", err
	}
	switch fstype {
	case "ext2", "ext3", "ext4":
		// tune2fs wants it checked, where it has checksums. e2fsck(8): 1 is
		// repaired.
		if _, err = tool(ctx, "", "e2fsck", "-f", "-p", dev); exitCode(err) == 1 {
			err = nil
		}
		if err == nil {
			_, err = tool(ctx, "y\n", "tune2fs", "-U", "random", dev)
		}
	case "xfs":
		// What xfs_admin -U does; that is a script. A dirty log is refused.
		_, err = tool(ctx, "", "xfs_db", "-x", "-p", "xfs_admin", "-c", "uuid generate", dev)
	case "btrfs":
		_, err = tool(ctx, "", "btrfstune", "-f", "-u", dev)
	default:
		return "", nil
	}
	if err != nil {
		return "", err
	}
	now, err := blkidUUID(ctx, dev)
	switch {
	case err != nil:
		return "", err
	case now == was || now == "":
		return "", fmt.Errorf("it is still %q", now)
	}
	return now, nil
}

// blkidUUID reads the device itself, not a cache.
func blkidUUID(ctx context.Context, dev string) (string, error) {
	out, err := tool(ctx, "", "blkid", "-p", "-s", "UUID", "-o", "value", dev)
	if exitCode(err) == 2 { // blkid(8): nothing found
		return "", nil
	}
	return strings.TrimSpace(out), err
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// tool runs a program and returns what it prints.
func tool(ctx context.Context, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute) // all metadata of a large disk
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = 5 * time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.Join(strings.Fields(said.String()), " "))
	}
	return out.String(), nil
}
