package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// swapOn marks a holder that is a swap area.
const swapOn = "swap on "

// checkHolders refuses to take apart what isn't made of the chosen disks
// alone: the rest of it would be left in pieces.
func checkHolders(sys string, devs []Device) error {
	ours := map[string]bool{}
	for _, d := range devs {
		ours[d.sysName()] = true
	}
	for _, d := range devs {
		for _, h := range d.Holders {
			if strings.HasPrefix(h, swapOn) {
				continue
			}
			for _, under := range disksUnder(sys, h) {
				if !ours[under] {
					return fmt.Errorf("%s is part of %s, which is also made of %s: that is none of the plan's disks", d, h, strings.ReplaceAll(under, "!", "/"))
				}
			}
		}
	}
	return nil
}

// disksUnder are the disks that something is made of, as sysfs names them.
func disksUnder(sys, name string) []string {
	var disks []string
	todo := []string{name}
	for i := 0; i < len(todo) && i < maxHolders; i++ {
		real, err := filepath.EvalSymlinks(filepath.Join(sys, "class/block", todo[i]))
		if err != nil {
			continue
		}
		if attr(real, "partition") != "" {
			real = filepath.Dir(real)
		}
		slaves, _ := os.ReadDir(filepath.Join(real, "slaves"))
		if len(slaves) == 0 && !slices.Contains(disks, filepath.Base(real)) {
			disks = append(disks, filepath.Base(real))
		}
		for _, s := range slaves {
			if !slices.Contains(todo, s.Name()) {
				todo = append(todo, s.Name())
			}
		}
	}
	return disks
}

// release takes apart what is made of the disks, the uppermost first, and
// switches off swap areas on them. Whatever was written into it is on the
// disks then.
func release(ctx context.Context, opt Options, disks []string) error {
	if err := swapOff(disks, opt); err != nil {
		return err
	}
	for range maxHolders {
		var all []string // folders
		for _, d := range disks {
			all = append(all, holdersOf("/sys", filepath.Join("/sys/block", d))...)
		}
		top := slices.IndexFunc(all, func(dir string) bool {
			return attr(dir, "partition") == "" && len(holdersOf("/sys", dir)) == 0
		})
		if top < 0 {
			if len(all) > 0 {
				return fmt.Errorf("take apart %s: each is held by another", filepath.Base(all[0]))
			}
			return nil
		}
		name := filepath.Base(all[top])
		opt.step("taking apart %s", describeHolder(all[top]))
		if err := remove(ctx, all[top]); err != nil {
			return fmt.Errorf("take apart %s: %w", name, err)
		}
		if err := waitGone(ctx, all[top]); err != nil {
			return fmt.Errorf("take apart %s: %w", name, err)
		}
	}
	return errors.New("take apart what the disks are used for: there is no end of it")
}

func describeHolder(dir string) string {
	if name := attr(dir, "dm/name"); name != "" {
		return name + " (" + filepath.Base(dir) + ")"
	}
	return filepath.Base(dir)
}

// remove ends an array, or a device of the device mapper: a volume of LVM's,
// an open LUKS container.
func remove(ctx context.Context, dir string) error {
	name := attr(dir, "dm/name")
	switch {
	case name != "":
		if err := run(ctx, "", "dmsetup", "remove", "--retry", name); err != nil {
			return err
		}
		return unlinkAll(func(to string) bool {
			return filepath.Base(to) == name && filepath.Base(filepath.Dir(to)) == "mapper"
		})
	case attr(dir, "md/array_state") != "":
		if _, err := exec.LookPath("mdadm"); err == nil {
			err = run(ctx, "", "mdadm", "--stop", "/dev/"+filepath.Base(dir))
			if err != nil {
				return err
			}
		} else if err := os.WriteFile(filepath.Join(dir, "md/array_state"), []byte("clear"), 0); err != nil {
			return err // Documentation/admin-guide/md.rst: as mdadm --stop
		}
		return unlinkAll(func(to string) bool { return filepath.Base(to) == filepath.Base(dir) })
	}
	return errors.New("it is neither of md nor of the device mapper")
}

// unlinkAll removes the names that LVM and mdadm gave to what is gone,
// /dev/vg0/root and /dev/md/home: without a udev nobody else does.
func unlinkAll(gone func(to string) bool) error {
	links, err := filepath.Glob("/dev/*/*")
	if err != nil {
		return err
	}
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil || !gone(to) {
			continue
		}
		if err := os.Remove(l); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		_ = os.Remove(filepath.Dir(l)) // unless another volume is there
	}
	return nil
}

// waitGone waits until the kernel has forgotten it. A stopped array's folder
// may stay, without members.
func waitGone(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		slaves, err := os.ReadDir(filepath.Join(dir, "slaves"))
		if err != nil || len(slaves) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is there still: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// swapOff switches off the swap areas on the disks and on what is made of them.
func swapOff(disks []string, opt Options) error {
	swaps, err := swapAreas()
	if err != nil {
		return err
	}
	for _, d := range disks {
		dir := filepath.Join("/sys/block", d)
		for _, node := range append(nodesOf(dir), holdersOf("/sys", dir)...) {
			path, ok := swaps[attr(node, "dev")]
			if !ok {
				continue
			}
			delete(swaps, attr(node, "dev")) // it may lie on several of the disks
			opt.step("switching off swap on %s", path)
			if err := swapoff(path); err != nil {
				return fmt.Errorf("switch off swap on %s: %w", path, err)
			}
		}
	}
	return nil
}

func swapoff(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
