package faults

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Space is a network namespace without a name.
type Space struct{ f *os.File }

func newSpace() (*Space, error) {
	s := &Space{}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		var err error
		if s.f, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		return linkUp("lo")
	})
	return s, err
}

// onOwnThread runs f on a thread that is back in this process's own network
// namespace afterwards, or ends.
func onOwnThread(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("leave network namespace: %w", back) // the thread stays locked, and dies with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// Do runs f in the namespace: sockets that it makes and programs that it
// starts belong there.
func (s *Space) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(s.f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// Run runs a program in the namespace to its end.
func (s *Space) Run(stdin string, args ...string) error {
	var out []byte
	err := s.Do(func() error {
		c := exec.Command(args[0], args[1:]...)
		c.Stdin = strings.NewReader(stdin)
		var err error
		out, err = c.CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Listen gives a listener in the namespace.
func (s *Space) Listen(addr string) (ln net.Listener, err error) {
	err = s.Do(func() error { ln, err = net.Listen("tcp4", addr); return err })
	return ln, err
}

// Dial connects from the namespace; addr must be an IP address, so that no
// other goroutine is asked to resolve it.
func (s *Space) Dial(addr string) (c net.Conn, err error) {
	err = s.Do(func() error { c, err = net.Dial("tcp4", addr); return err })
	return c, err
}

func (s *Space) close() { s.f.Close() }

func linkUp(name string) error { return setLink(name, netlink.LinkSetUp) }

func setLink(name string, set func(netlink.Link) error) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = set(l)
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

// address gives a link an address, or takes one away.
func address(name, cidr string, change func(netlink.Link, *netlink.Addr) error) error {
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	return setLink(name, func(l netlink.Link) error { return change(l, a) })
}
