package drivers

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Watch loads a module for every device that turns up, until ctx ends. It
// listens before it returns, so that a Coldplug afterwards misses nothing.
// report is told what was loaded; the channel closes when Watch has ended.
func (l *Loader) Watch(ctx context.Context, report func(Report)) (<-chan struct{}, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	// Group 1 is the kernel's own events (lib/kobject_uevent.c).
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	// The receive time-out is how soon the end of ctx is noticed. Coldplug
	// makes thousands of events; those lost it finds itself.
	wait := unix.NsecToTimeval(int64(200 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set time-out of uevent socket: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		l.watch(ctx, fd, report)
	}()
	return done, nil
}

func (l *Loader) watch(ctx context.Context, fd int, report func(Report)) {
	buf := make([]byte, 64<<10) // UEVENT_BUFFER_SIZE is 2048, linux/kobject.h
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		switch err {
		case nil:
		case unix.EAGAIN, unix.EINTR, unix.ENOBUFS:
			continue
		default:
			return
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 { // not from the kernel
			continue
		}
		d := added(buf[:n])
		if d.Modalias == "" {
			continue
		}
		var r Report
		l.serve(d, &r)
		if len(r.Loaded)+len(r.Failed) > 0 {
			report(r)
		}
	}
}

// added is the device of an "add" event with a MODALIAS: "add@/devices/…",
// then NUL-separated KEY=VALUE.
func added(event []byte) Device {
	first, rest, _ := bytes.Cut(event, []byte{0})
	devpath, ok := bytes.CutPrefix(first, []byte("add@"))
	if !ok {
		return Device{}
	}
	var d Device
	for field := range bytes.SplitSeq(rest, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch {
		case key == "MODALIAS" && len(value) <= maxModalias:
			d.Modalias = value
		case key == "SUBSYSTEM":
			d.Path = value + "/devices/" + path.Base(string(devpath))
		}
	}
	return d
}
