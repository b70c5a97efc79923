package diskless

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const sshDir = "/etc/ssh"

// maxKeygen is for one key on the slowest machine there is: an emulated one on
// a busy host.
const maxKeygen = 5 * time.Minute

// hostKeys removes what host keys the new root came with, which all that run it
// would share, and makes new ones. They live as long as the machine runs. RSA
// is left out: what has no use for the others is older than 2014.
func (s *Self) hostKeys(ctx context.Context, root string, in *inside) ([]string, error) {
	ours := func(name string) bool { return strings.HasPrefix(name, "ssh_host_") }
	if err := in.remove(sshDir, ours); err != nil {
		return nil, fmt.Errorf("remove the image's ssh host keys: %w", err)
	}
	err := in.remove("/etc/dropbear", func(name string) bool { return strings.HasSuffix(name, "_host_key") })
	if err != nil {
		return nil, fmt.Errorf("remove the image's ssh host keys: %w", err)
	}
	const keygen = "/usr/bin/ssh-keygen"
	if !in.program(keygen) || !in.has(sshDir) {
		return nil, nil
	}
	undo, err := bindDev(root)
	if err != nil {
		return nil, err
	}
	defer undo()
	var out []string
	for _, kind := range []string{"ed25519", "ecdsa"} {
		file := sshDir + "/ssh_host_" + kind + "_key"
		if err := inRoot(ctx, root, keygen, "-q", "-t", kind, "-N", "", "-C", "root@"+s.Hostname, "-f", file); err != nil {
			s.Say("no ssh host key of type %s: %v", kind, err)
			continue
		}
		pub, err := in.read(file + ".pub")
		if err != nil {
			return nil, fmt.Errorf("read the new ssh host key: %w", err)
		}
		out = append(out, strings.TrimSpace(string(pub)))
	}
	return out, nil
}

// bindDev shows the devices in the root, for ssh-keygen wants /dev/null.
func bindDev(root string) (undo func(), err error) {
	dev := filepath.Join(root, "dev")
	st, err := os.Lstat(dev)
	if os.IsNotExist(err) {
		if err = os.Mkdir(dev, 0o755); err == nil {
			st, err = os.Lstat(dev)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make /dev of the new root: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("/dev of the new root is no folder")
	}
	if err := unix.Mount("/dev", dev, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("bind /dev to %s: %w", dev, err)
	}
	return func() { unix.Unmount(dev, unix.MNT_DETACH) }, nil
}

// inRoot runs a program of the new root in it.
func inRoot(ctx context.Context, root, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, maxKeygen)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out[:min(len(out), 500)])))
	}
	return nil
}
