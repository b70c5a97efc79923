package nodelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// inOwnNetwork runs the test once more in a network namespace with lo alone.
func inOwnNetwork(t *testing.T, programs ...string) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs ", p)
		}
	}
	if os.Getenv("NODELOG_TEST_OWN_NETWORK") != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	c.Env = append(os.Environ(), "NODELOG_TEST_OWN_NETWORK=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// server runs a program until the test ends, and waits for its port.
func server(t *testing.T, addr string, args ...string) {
	t.Helper()
	var log locked
	c := exec.Command(args[0], args[1:]...)
	c.Stdout, c.Stderr = &log, &log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("%s: %s", args[0], log.String())
		}
	})
	until(t, args[0]+" listens", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// A real FTP server gets each node's log when it is done, by the old name.
func TestFTPServer(t *testing.T) {
	if !inOwnNetwork(t, "vsftpd") {
		return
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "ftp")
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "logs"), 0o755), os.Chmod(filepath.Join(root, "logs"), 0o777), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := write(t, filepath.Join(dir, "vsftpd.conf"), strings.Join([]string{
		"listen=YES", "listen_address=127.0.0.1", "background=NO", "anonymous_enable=YES", "local_enable=NO", "anon_root=" + root,
		"write_enable=YES", "anon_upload_enable=YES", "anon_mkdir_write_enable=YES", "anon_other_write_enable=YES", "anon_umask=022",
		"secure_chroot_dir=" + filepath.Join(dir, "empty"), "seccomp_sandbox=NO", "isolate=NO", "isolate_network=NO", "xferlog_enable=NO",
	}, "\n")+"\n")
	server(t, "127.0.0.1:21", "vsftpd", conf)
	f, err := ParseFTP("ftp://127.0.0.1/logs/room1", "")
	if err != nil {
		t.Fatal(err)
	}
	var log locked
	k := keeper(t, Config{Dir: filepath.Join(dir, "state"), FTP: f, Log: slog.New(slog.NewTextHandler(&log, nil))})
	two := one
	two.Number, two.MAC = 2, "52:54:00:00:00:02"
	k.Add(one, slog.LevelInfo, "formatting", "done")
	k.End(one)
	k.Add(two, slog.LevelError, "failed: preparing disks: no disk")
	k.End(two)
	for name, want := range map[string]string{"ka_log-10.0.1.111-20100507-10h32": " formatting\n", "ka_log-10.0.1.111-20100507-10h32-node2": " failed: preparing disks: no disk\n"} {
		path := filepath.Join(root, "logs/room1", name)
		until(t, name+" is there", func() bool {
			b, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(b), want)
		})
	}
	k.Add(one, slog.LevelInfo, "state: released")
	k.End(one) // once more, with what came since
	until(t, "the log is stored again", func() bool {
		b, err := os.ReadFile(filepath.Join(root, "logs/room1/ka_log-10.0.1.111-20100507-10h32"))
		return err == nil && strings.Contains(string(b), "released")
	})
	bad, err := ParseFTP("ftp://joe:secret@127.0.0.1/logs", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := bad.store(t.Context(), "x", nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a wrong password: %v", err)
	}
	if strings.Contains(log.String(), "WARN") {
		t.Error(log.String())
	}
}

// A server that isn't there, and one that takes the connection and says
// nothing: who adds lines isn't held up, and the end of the session is not for
// longer than it allows.
func TestFTPServerHangs(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:2121")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, port := range []string{"2121", "9"} {
		f, err := ParseFTP("ftp://127.0.0.1:"+port, "")
		if err != nil {
			t.Fatal(err)
		}
		var log locked
		k := Open(Config{Dir: t.TempDir(), Session: "s", Begun: time.Now(), FTP: f, Log: slog.New(slog.NewTextHandler(&log, nil))})
		begun := time.Now()
		for i := range 100 {
			w := Who{Number: i + 1}
			k.Add(w, slog.LevelInfo, "done")
			k.End(w)
		}
		if d := time.Since(begun); d > time.Minute {
			t.Errorf("port %s: nodes were held up for %s", port, d)
		}
		k.Close(shortly(t, 2*time.Second))
		if d := time.Since(begun); d > 2*time.Minute {
			t.Errorf("port %s: the end took %s", port, d)
		}
		if !strings.Contains(log.String(), "isn't on the FTP server") {
			t.Errorf("port %s: nobody is told: %s", port, log.String())
		}
	}
}

// A real syslog server gets each line, with the node as the host, by UDP and
// by TCP.
func TestSyslogServer(t *testing.T) {
	if !inOwnNetwork(t, "rsyslogd") {
		return
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	conf := write(t, filepath.Join(dir, "rsyslog.conf"), fmt.Sprintf(`global(workDirectory=%q)
module(load="imudp")
input(type="imudp" port="514")
module(load="imtcp")
input(type="imtcp" port="514")
template(name="t" type="string" string="%%hostname%% %%app-name%% %%procid%% %%syslogseverity-text%% %%syslogfacility-text%% %%protocol-version%% %%inputname%%|%%msg%%\n")
action(type="omfile" file=%q template="t")
`, dir, out))
	server(t, "127.0.0.1:514", "rsyslogd", "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
	for _, network := range []string{"udp", "tcp"} {
		s, err := ParseSyslog(network + "://127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		k := keeper(t, Config{Syslog: s})
		k.Add(one, slog.LevelInfo, "formatting by "+network)
		k.Add(Who{Number: 2, Name: "room1-02"}, slog.LevelError, "failed by "+network)
		for _, want := range []string{
			"node1 kamethod 1 info local0 1 im" + network + "|formatting by " + network + "\n",
			"room1-02 kamethod 2 err local0 1 im" + network + "|failed by " + network + "\n",
		} {
			until(t, fmt.Sprintf("%q is there", want), func() bool {
				b, err := os.ReadFile(out)
				return err == nil && strings.Contains(strings.ReplaceAll(string(b), "| ", "|"), want)
			})
		}
	}
}

// A syslog server that reads nothing holds nobody up.
func TestSyslogServerHangs(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:514")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, err := ParseSyslog("tcp://127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	k := Open(Config{Syslog: s, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	begun := time.Now()
	for range 20_000 {
		k.Add(one, slog.LevelInfo, strings.Repeat("z", 1000))
	}
	if d := time.Since(begun); d > time.Minute {
		t.Errorf("nodes were held up for %s", d)
	}
	k.Close(shortly(t, time.Second))
	if d := time.Since(begun); d > 2*time.Minute {
		t.Errorf("the end took %s", d)
	}
}

func shortly(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
