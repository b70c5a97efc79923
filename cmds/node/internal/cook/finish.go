package cook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// finishImage syncs what came as it is; after the last device, mounts.
func (s *Sink) finishImage(d *dish) error {
	if err := errors.Join(s.complete(d), d.image.Close()); err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return s.served(d)
}

// served notes that a copy is where it belongs.
func (s *Sink) served(d *dish) error {
	if d.device && d.whole {
		err := reread(d.path)
		if err != nil && s.needsPartitions(d) {
			return fmt.Errorf("the kernel doesn't take the new partitions of %s, and the old ones mustn't be written to: %w", d.path, err)
		}
		if err != nil {
			s.opt.Log.Warn("the kernel doesn't take the disk's new partitions", "disk", d.path, "err", err)
		}
	}
	s.opt.Say(fmt.Sprintf("%s is written", d.path))
	close(d.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.device {
		s.open--
	}
	if d.device && s.open == 0 && !s.mounted {
		return s.mount()
	}
	return nil
}

// needsPartitions says whether anything is written to partitions of a disk that
// is written as a whole.
func (s *Sink) needsPartitions(d *dish) bool {
	for _, m := range s.mounts {
		if on, part := diskOf(m.Device); part > 0 && "/dev/"+on == d.path {
			return true
		}
	}
	return slices.ContainsFunc(s.dishes, func(o *dish) bool { return o.disk == d.path && !o.whole })
}

// mount mounts what the plan says, when all devices have what they get, and
// lets those begin who waited for it; the lock is held.
func (s *Sink) mount() error {
	s.mounted = true
	if err := s.layTable(); err != nil {
		s.err = err
		s.pantry.close(err)
		return err
	}
	s.pantry.mu.Lock()
	defer s.pantry.mu.Unlock()
	s.tabled = true
	s.pantry.news.Broadcast()
	return nil
}

func (s *Sink) layTable() (err error) {
	if len(s.mounts) > 0 {
		if s.below, err = newBelow(s.opt.Root); err != nil {
			return err
		}
	}
	for _, m := range sorted(s.mounts) {
		if err := s.mountOne(s.ctx, m); err != nil {
			return err
		}
	}
	if err := s.roomBelow(); err != nil {
		return err
	}
	for _, d := range s.dishes { // before anybody unpacks what may be links
		if !d.below || d.feed != nil {
			continue
		}
		if err := s.openImage(d); err != nil {
			return err
		}
		if d.s.Pieces == 0 {
			if err := errors.Join(d.image.Finish(s.ctx), d.image.Close()); err != nil {
				return err
			}
			close(d.done)
		}
	}
	for _, d := range s.dishes {
		if d.below && d.feed != nil {
			s.cook(d)
		}
	}
	return nil
}

// Finish waits until all is written, and on the disks.
func (s *Sink) Finish(ctx context.Context) error {
	for _, d := range s.dishes {
		for done := false; !done; {
			select {
			case <-d.done:
				done = true
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
				s.mu.Lock()
				err := s.err
				s.mu.Unlock()
				if err != nil {
					return err
				}
			}
		}
	}
	return s.sync()
}

// sync waits until all files are on the disks; devices are, one by one.
func (s *Sink) sync() error {
	for _, m := range s.mounts {
		f, err := s.below.open(m.At, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return fmt.Errorf("sync %s: %w", m.At, err)
		}
		if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
			return fmt.Errorf("sync %s, %s: %w", m.At, m.Device, err)
		}
	}
	for _, d := range s.dishes {
		if d.device || d.below || d.Archive == "" { // a file was synced when it had everything
			continue
		}
		f, err := os.Open(d.path)
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", d.path, err)
		}
	}
	return nil
}
