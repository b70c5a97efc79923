package compare

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fsckFAT works on a copy: fsck.fat(8) takes no offset.
func fsckFAT(ctx context.Context, image string, p Partition) error {
	dir, err := os.MkdirTemp("", "fat")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	from, err := os.Open(image)
	if err != nil {
		return err
	}
	defer from.Close()
	name := filepath.Join(dir, "fat")
	to, err := os.Create(name)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, io.NewSectionReader(from, p.Start, p.Size)); err != nil {
		return fmt.Errorf("copy partition %d: %w", p.Number, err)
	}
	_, err = output(ctx, "fsck.fat", "-n", name)
	return err
}

// extractFAT has mtools put all files of a FAT into an empty memory file
// system on that directory: the kernel that runs this may not know FAT.
func extractFAT(ctx context.Context, image string, p Partition, at string) error {
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", at, err)
	}
	cmd := exec.CommandContext(ctx, "mcopy", "-s", "-n", "-m", "-i", fmt.Sprintf("%s@@%d", image, p.Start), "::*", at)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = unix.Unmount(at, unix.MNT_DETACH)
		return fmt.Errorf("read the FAT in partition %d of %s: %w: %s", p.Number, image, err, out)
	}
	return nil
}
