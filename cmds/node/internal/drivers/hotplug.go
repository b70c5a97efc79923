package drivers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Watch loads a module for every device that turns up, until ctx ends. It
// listens before it returns, so that a Coldplug afterwards misses nothing.
// report is told what was loaded; the channel closes when Watch has ended.
func (l *Loader) Watch(ctx context.Context, report func(Report)) (<-chan struct{}, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	// Nobody waits in a system call: Go's runtime would look after that
	// thousands of times a second.
	f := os.NewFile(uintptr(fd), "uevent socket")
	// Group 1 is the kernel's own events (lib/kobject_uevent.c).
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		f.Close()
		return nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("use uevent socket: %w", err)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	go func() {
		defer close(done)
		defer f.Close()
		defer stop()
		l.watch(ctx, conn, report)
	}()
	return done, nil
}

func (l *Loader) watch(ctx context.Context, conn syscall.RawConn, report func(Report)) {
	buf := make([]byte, 64<<10) // UEVENT_BUFFER_SIZE is 2048, linux/kobject.h
	for ctx.Err() == nil {
		var n int
		var from unix.Sockaddr
		var err error
		ended := conn.Read(func(fd uintptr) bool {
			n, from, err = unix.Recvfrom(int(fd), buf, 0)
			return err != unix.EAGAIN
		})
		switch {
		case ended != nil:
			return
		case err == unix.EINTR || err == unix.ENOBUFS: // Coldplug makes thousands of events; those lost it finds itself
			continue
		case err != nil:
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
