package golden

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// twoNetworks makes this test's thread one of a new network namespace, with
// net0 10.81.0.1/24 and net1 10.82.0.1/24. The thread is thrown away.
func twoNetworks(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	runtime.LockOSThread() // never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"link set lo up", "link add net0 type bridge", "addr add 10.81.0.1/24 brd + dev net0", "link set net0 up",
		"link add net1 type bridge", "addr add 10.82.0.1/24 brd + dev net1", "link set net1 up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
}

func TestInterfaces(t *testing.T) {
	twoNetworks(t)
	names, addrs, err := Interfaces("net0, net1")
	if err != nil || fmt.Sprint(names, addrs) != "[net0 net1] [10.81.0.1 10.82.0.1]" {
		t.Errorf("%v %v %v", names, addrs, err)
	}
	for list, want := range map[string]string{
		"": "name one with --interface", "net0,": "has no name", "net0,net0": "is there twice", "net0,net9": "no interface net9",
	} {
		if _, _, err := Interfaces(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", list, err, want)
		}
	}
}

// TestControlOnSeveral: nodes of each network reach the control server by
// golden's address there, and those of a third don't.
func TestControlOnSeveral(t *testing.T) {
	twoNetworks(t)
	ln, err := listenAll([]netip.Addr{netip.MustParseAddr("10.81.0.1"), netip.MustParseAddr("10.82.0.1")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	done := make(chan error, 1)
	go func() {
		for range 2 {
			c, err := ln.Accept()
			if err != nil {
				done <- err
				return
			}
			fmt.Fprint(c, c.LocalAddr())
			c.Close()
		}
		done <- nil
	}()
	for _, a := range []string{"10.81.0.1", "10.82.0.1"} {
		at := net.JoinHostPort(a, fmt.Sprint(port))
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || string(got) != at {
			t.Errorf("%s: %q, %v", at, got, err)
		}
		c.Close()
	}
	if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port))); err == nil {
		c.Close()
		t.Error("listens on other addresses too")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("a connection after the end")
	}
}

// TestControlWithoutFiles: too many open files end no network's connections.
func TestControlWithoutFiles(t *testing.T) {
	there := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	ln, err := listenAll(there, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	var asking []int
	for range there {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		asking = append(asking, fd)
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var held []int
	release := func() {
		for _, fd := range held {
			unix.Close(fd)
		}
		held = nil
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}
	defer release()
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, fd)
	}
	for i, fd := range asking {
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: there[i].As4(), Port: port}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(10 * acceptPause) // they can't be taken
	release()
	for range there {
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

func TestShareAmongInterfaces(t *testing.T) {
	twoNetworks(t)
	a := netip.MustParseAddr
	fixed := filepath.Join(t.TempDir(), "fixed")
	if err := os.WriteFile(fixed, []byte("52:54:00:00:00:01 10.82.0.7 n7 # in the second\n52:54:00:00:00:02 10.90.0.9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := Boot{Interfaces: []string{"net0", "net1"}, DHCP: netboot.DHCPFull, Fixed: fixed, Subnets: []string{"10.90.0.0/24,,10.90.0.1"}}
	c := netboot.Config{DHCP: netboot.DHCPFull, RangeFrom: a("10.82.0.10"), RangeTo: a("10.82.0.20"), Router: a("10.81.0.254"), LeaseFile: "/x/leases"}
	if err := b.leases(&c); err != nil {
		t.Fatal(err)
	}
	list, err := b.share(c)
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	one, two := list[0], list[1]
	if one.Interface != "net0" || one.RangeFrom.IsValid() || one.Router != c.Router || len(one.Subnets) != 1 || len(one.Fixed) != 1 || one.LeaseFile != "/x/leases-net0" {
		t.Errorf("first: %+v", one)
	}
	if two.Interface != "net1" || two.RangeTo != c.RangeTo || two.Router.IsValid() || len(two.Subnets) != 0 || two.Fixed["52:54:00:00:00:01"] != a("10.82.0.7") || two.LeaseFile != "/x/leases-net1" {
		t.Errorf("second: %+v", two)
	}
	c.Router = a("10.99.0.1")
	if _, err := b.share(c); err == nil || !strings.Contains(err.Error(), "--router 10.99.0.1 is in no network of the interfaces net0, net1") {
		t.Errorf("a router of nowhere: %v", err)
	}
}

// TestBootServersOnSeveral: each tells nodes its own address.
func TestBootServersOnSeveral(t *testing.T) {
	twoNetworks(t)
	b := Boot{Interfaces: []string{"net0", "net1"}, DHCP: netboot.DHCPProxy}
	log := slog.New(slog.DiscardHandler)
	told := map[netip.Addr]bool{}
	words := func(c *netboot.Config, a netip.Addr) error {
		told[a] = true
		c.Append = "ka.server=" + a.String()
		return nil
	}
	_, addrs, err := Interfaces("net0,net1")
	if err != nil {
		t.Fatal(err)
	}
	list, err := b.servers(netboot.Config{DHCP: b.DHCP}, addrs, words, log)
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for i, s := range list {
		if s.Addr().Addr() != addrs[i] || !told[addrs[i]] {
			t.Errorf("server %d is on %v, want %v", i, s.Addr(), addrs[i])
		}
	}
	if err := list.Close(); err != nil {
		t.Error(err)
	}
}
