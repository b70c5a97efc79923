package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// street is an office with a second golden machine on the same network:
//
//	golden  10.78.0.1 ─ br0 ┬─ host    10.78.0.11
//	                        └─ second  10.78.0.2
type street struct {
	*office
	second string
}

func newStreet(t *testing.T) *street {
	t.Helper()
	s := &street{office: newOffice(t), second: fmt.Sprintf("gt%d", os.Getpid())}
	s.ip("netns", "add", s.second)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", s.second).Run() })
	s.ip("-n", s.golden, "link", "add", "br0", "type", "bridge")
	s.ip("-n", s.golden, "addr", "del", "10.78.0.1/24", "dev", "eth0")
	s.ip("-n", s.golden, "addr", "add", "10.78.0.1/24", "brd", "+", "dev", "br0")
	s.ip("-n", s.golden, "link", "add", "second0", "type", "veth", "peer", "name", "eth0", "netns", s.second)
	for _, port := range []string{"eth0", "second0"} {
		s.ip("-n", s.golden, "link", "set", port, "master", "br0", "up")
	}
	s.ip("-n", s.golden, "link", "set", "br0", "up")
	s.ip("-n", s.second, "link", "set", "lo", "up")
	s.ip("-n", s.second, "addr", "add", "10.78.0.2/24", "brd", "+", "dev", "eth0")
	s.ip("-n", s.second, "link", "set", "eth0", "up")
	return s
}

// running is a golden-serve clone.
type running struct {
	t   *testing.T
	cmd *exec.Cmd
	log *locked
	end chan struct{}
}

// cloneAt starts a clone on one of the golden machines.
func (s *street) cloneAt(ns, session string, more ...string) *running {
	s.t.Helper()
	c := exec.Command("ip", append([]string{"netns", "exec", ns, os.Args[0], "clone", "-s", session, "-n", "1", "--images", "images", "--yes",
		"--root", "root", "-p", "sda", "desc", "-r", "none"}, more...)...)
	c.Dir = s.dir
	c.Env = append(os.Environ(), asMain+"=1", "KAMETHOD_ETC="+filepath.Join(s.dir, "etc-"+ns), "KAMETHOD_STATE="+filepath.Join(s.dir, "state-"+ns))
	r := &running{t: s.t, cmd: c, log: &locked{}, end: make(chan struct{})}
	c.Stdout, c.Stderr = r.log, r.log
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { c.Wait(); close(r.end) }()
	s.t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	r.cmd.Process.Kill()
	<-r.end
}

// says waits for a text.
func (r *running) says(text string) {
	r.t.Helper()
	for end := time.Now().Add(60 * time.Second); !strings.Contains(r.log.String(), text); time.Sleep(50 * time.Millisecond) {
		select {
		case <-r.end:
			if !strings.Contains(r.log.String(), text) {
				r.t.Fatalf("ended without %q:\n%s", text, r.log)
			}
			return
		default:
		}
		if time.Now().After(end) {
			r.t.Fatalf("has not said %q:\n%s", text, r.log)
		}
	}
}

// refused wants a clone at the second machine to end with status 2, and to say
// why. Its question goes by broadcast, and the answer of a busy machine may come
// too late: then it is asked again.
func (s *street) refused(why string, more ...string) {
	s.t.Helper()
	for range 5 {
		r := s.cloneAt(s.second, "second", more...)
		end := time.Now().Add(60 * time.Second)
		for serves := false; !serves; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				s.t.Fatalf("neither serves nor ends:\n%s", r.log)
			}
			select {
			case <-r.end:
				if got := r.cmd.ProcessState.ExitCode(); got != 2 || !strings.Contains(r.log.String(), why) {
					s.t.Errorf("exit status %d, want 2 and %q:\n%s", got, why, r.log)
				}
				return
			default:
				serves = strings.Contains(r.log.String(), "netboot serves")
			}
		}
		r.stop()
	}
	s.t.Errorf("goes on; want %q", why)
}

// Two golden nodes boot machines on one network: only if both have named them,
// and none is named by both; then each machine is offered what is its own.
func TestTwoGoldensOnOneNetwork(t *testing.T) {
	s := newStreet(t)
	const one, two, nobody = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:99"
	for name, macs := range map[string]string{"one": one, "two": two, "both": one + "\n" + two} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(macs+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const serves = "netboot serves"
	first := s.cloneAt(s.golden, "first", "--dhcp", "proxy")
	first.says(serves)
	s.refused(`the golden node at 10.78.0.1 boots machines on this network for session "first", whatever machine comes, and so would this one`, "--dhcp", "proxy")
	s.refused("whatever machine comes, those of this session too", "--dhcp", "proxy", "--macs", "two")
	off := s.cloneAt(s.second, "second", "--dhcp", "off") // whoever boots the machines sends them to one by kaopt=
	off.says(serves)
	off.stop()
	first.stop()
	first = s.cloneAt(s.golden, "first", "--dhcp", "proxy", "--macs", "one")
	first.says(serves)
	s.refused("this one would take them, too", "--dhcp", "proxy")
	s.refused("machine "+one+" is one of them", "--dhcp", "proxy", "-n", "2", "--macs", "both")
	want := func(what string, macs ...string) {
		t.Helper()
		if got := s.offered(nobody, two, one); !slices.Equal(got, macs) {
			t.Errorf("%s: %q are offered a boot server, want %q", what, got, macs)
		}
	}
	want("the first alone", one)
	second := s.cloneAt(s.second, "second", "--dhcp", "proxy", "--macs", "two")
	second.says("the machines of both are named")
	second.says(serves)
	want("both", one, two)
	second.stop()
	want("the first alone again", one)
}

// One golden-serve with two clones: the boot configuration of a machine is its
// session's, and the verbs speak to one session.
func TestSessionsBootApart(t *testing.T) {
	o := newOffice(t)
	const one, two, nobody = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:99"
	file := "images: images\ndhcp: off\nconsole: console=ttyS0\ndeployments:\n"
	for room, mac := range map[string]string{"room1": one, "room2": two} {
		file += fmt.Sprintf("  - {session: %s, macs: [%s], root: root, partition: sda=desc, loader: none}\n", room, mac)
	}
	if err := os.WriteFile(filepath.Join(o.dir, "f.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	log := &locked{}
	c := o.command("sessions", "f.yaml")
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("golden-serve sessions:\n%s", log)
		}
	})
	for end := time.Now().Add(60 * time.Second); o.command("status", "-s", "room1").Run() != nil || o.command("status", "-s", "room2").Run() != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("golden-serve sessions doesn't answer")
		}
	}
	wants := func(mac, session string) {
		t.Helper()
		text := o.boots(mac)
		image := strings.Contains(text, "images/all.rdz")
		if image != (session != "") || image && (strings.Count(text, "kaopt=") != strings.Count(text, "kaopt="+session) || !strings.Contains(text, "kaopt="+session)) {
			t.Errorf("%s is to boot for session %q, and hears\n%s", mac, session, text)
		}
	}
	wants(one, "room1")
	wants(two, "room2")
	wants(nobody, "")
	if out, _ := o.run(0, "nodes", "-s", "room1"); !strings.Contains(out, one+"  booting") || strings.Contains(out, two) {
		t.Errorf("the machines of room1:\n%s", out)
	}
	if _, say := o.run(2, "arm", "-s", "room1", two); !strings.Contains(say, `is one of session "room2"`) {
		t.Errorf("arm of another's machine: %s", say)
	}
	o.run(0, "arm", "-s", "room2", nobody)
	wants(nobody, "room2")
	o.run(0, "disarm", "-s", "room2", "--all")
	wants(two, "")
	wants(nobody, "")
	wants(one, "room1")
	_, say := o.run(2, "clone", "-s", "room3", "-n", "1", "--images", "images", "--yes", "--dhcp", "proxy", "--root", "root", "-p", "sda", "desc", "-r", "none")
	if !strings.Contains(say, "udp port 69 on eth0 is in use by golden-serve") || !strings.Contains(say, "golden-serve sessions runs several") {
		t.Errorf("a second golden-serve on this host hears %q", say)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != 130 {
		t.Errorf("exit status %d, want 130", got)
	}
}

// Lines of several sessions stay whole, each with its session's name.
func TestPrefixed(t *testing.T) {
	var b bytes.Buffer
	s := &shared{w: &b}
	one, two := s.prefixed("one: "), s.prefixed("two: ")
	for _, w := range []struct {
		p    *prefixed
		text string
	}{{one, "a"}, {two, "x\ny"}, {one, "b\n\n"}, {two, "z\n"}} {
		if n, err := w.p.Write([]byte(w.text)); n != len(w.text) || err != nil {
			t.Error(n, err)
		}
	}
	if want := "two: x\none: ab\none: \ntwo: yz\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
