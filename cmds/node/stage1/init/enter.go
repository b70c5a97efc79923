package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/u-root/u-root/pkg/mount"
	"github.com/u-root/u-root/pkg/mount/loop"
	"golang.org/x/sys/unix"
)

// Where stage 2 comes together. All but newRoot is under /run and moves with
// it.
const (
	image   = "/run/rescue.sqfs"
	lower   = handover.Dir + "/stage2" // the image, read only
	upper   = handover.Dir + "/rw"     // what stage 2 writes, in RAM
	work    = handover.Dir + "/work"
	newRoot = "/newroot"
)

// mount lays a writable layer over the image.
func (s *stage1) mount(context.Context) error {
	for _, name := range []string{"loop", string(s.kind), "overlay"} {
		if _, err := s.loader.Load(name); err != nil && !errors.Is(err, drivers.ErrNotFound) {
			return err
		} // not found: built in, or the mount says so
	}
	for _, dir := range []string{lower, upper, work, newRoot} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
	}
	dev, err := loop.New(image, string(s.kind), "")
	if err != nil {
		return fmt.Errorf("make a block device of %s: %w", image, err)
	}
	if _, err := dev.Mount(lower, unix.MS_RDONLY); err != nil {
		return fmt.Errorf("mount %s: %w", image, errors.Join(err, dev.Free()))
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	if err := unix.Mount("overlay", newRoot, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount overlay (%s) on %s: %w", layers, newRoot, err)
	}
	return nil
}

// stepOver replaces this init by stage 2's. From SwitchRoot's deleting on
// there is no way back, so what could fail is looked at before.
func (s *stage1) stepOver(context.Context) error {
	next := ""
	for _, name := range []string{"/bbin/init", "/init", "/sbin/init"} {
		if st, err := os.Stat(filepath.Join(newRoot, name)); err == nil && st.Mode()&0o111 != 0 {
			next = name
			break
		}
	}
	if next == "" {
		return fmt.Errorf("%s has none of /bbin/init, /init, /sbin/init", image)
	}
	s.copyText(resolvConf)
	if err := s.state.Save(handover.Path); err != nil {
		return err
	}
	if err := unix.Unmount("/tmp", unix.MNT_DETACH); err != nil {
		s.con.Line("%s: unmount /tmp: %v", title, err)
	}
	log.SetOutput(io.Discard) // the library's running commentary
	if err := mount.SwitchRoot(newRoot, next); err != nil {
		return fmt.Errorf("step into stage 2's %s: %w", next, err)
	}
	return nil
}

// copyText takes a small file along to stage 2.
func (s *stage1) copyText(path string) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(newRoot, path), b, 0o644)
	}
	if err != nil {
		s.con.Line("%s: take %s along: %v", title, path, err)
	}
}
