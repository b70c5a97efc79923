package download

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// vsftpd serves a folder to anybody.
func vsftpd(t *testing.T, dir string, more ...string) {
	t.Helper()
	needs(t, "vsftpd")
	empty := t.TempDir()
	lines := append([]string{
		"listen=YES", "listen_address=127.0.0.1", "background=NO", "anonymous_enable=YES", "local_enable=NO", "anon_root=" + dir,
		"secure_chroot_dir=" + empty, "seccomp_sandbox=NO", "isolate=NO", "isolate_network=NO", "xferlog_enable=NO",
	}, more...)
	conf := filepath.Join(t.TempDir(), "vsftpd.conf")
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "127.0.0.1:21", "vsftpd", conf)
}

func TestFTP(t *testing.T) {
	img := squash(t, 3<<20)
	vsftpd(t, tree(t, "rescue.sqfs", img))
	taken(t, config(t, "ftp"), img, Squashfs, "ftp://127.0.0.1/cs4/install/stage2/rescue.sqfs")
}

func TestFTPManualsName(t *testing.T) {
	img := ext2(t)
	vsftpd(t, tree(t, "rescue.clp", img))
	taken(t, config(t, "ftp"), img, Ext, "ftp://127.0.0.1/cs4/install/stage2/rescue.clp")
}

func TestFTPMissing(t *testing.T) {
	vsftpd(t, tree(t, "", ""))
	if err := refused(t, config(t, "ftp"), "neither rescue.sqfs nor rescue.clp in ftp://127.0.0.1/cs4/install/stage2", "550"); errors.Is(err, ErrUnreachable) {
		t.Error("trying again won't help")
	}
}

func TestFTPNobodyMayRead(t *testing.T) {
	vsftpd(t, tree(t, "rescue.sqfs", squash(t, 1<<16)), "anonymous_enable=NO", "local_enable=YES")
	if err := refused(t, config(t, "ftp"), "anonymous", "530"); errors.Is(err, ErrUnreachable) {
		t.Error("trying again won't help")
	}
}

func TestFTPTooLarge(t *testing.T) {
	vsftpd(t, tree(t, "rescue.sqfs", squash(t, 1<<20)))
	c := config(t, "ftp")
	c.Room = 1 << 16
	refused(t, c, "too large", "room for 65536")
}

// The server's process for this session dies on the way; the next one goes on
// where it stopped.
func TestFTPGoesOn(t *testing.T) {
	needs(t, "vsftpd", "pgrep")
	img := squash(t, 3<<20)
	vsftpd(t, tree(t, "rescue.sqfs", img), "anon_max_rate=400000")
	c := config(t, "ftp")
	var said []string
	c.Say = func(line string) { said = append(said, line) }
	var killing sync.WaitGroup
	killing.Go(func() { killSessions(t, filepath.Dir(c.Path)) })
	taken(t, c, img, Squashfs, "ftp://127.0.0.1/cs4/install/stage2/rescue.sqfs")
	killing.Wait()
	if !strings.Contains(strings.Join(said, "\n"), "going on from there") {
		t.Errorf("nothing was broken off: %q", said)
	}
}

// killSessions ends the processes that serve, once something has come.
func killSessions(t *testing.T, dir string) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		parts, _ := filepath.Glob(filepath.Join(dir, ".rescue-*"))
		if len(parts) == 0 {
			continue
		}
		if st, err := os.Stat(parts[0]); err != nil || st.Size() < 1<<18 {
			continue
		}
		for _, pid := range sessions(t) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		return
	}
	t.Error("nothing ever came")
}

// sessions are the descendants of this test's vsftpd but for the listener.
func sessions(t *testing.T) (pids []int) {
	list := func(parent int) (out []int) {
		b, _ := exec.Command("pgrep", "-x", "-P", strconv.Itoa(parent), "vsftpd").Output()
		for _, f := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Error(err)
			}
			out = append(out, n)
		}
		return out
	}
	for _, listener := range list(os.Getpid()) {
		for _, s := range list(listener) {
			pids = append(append(pids, list(s)...), s)
		}
	}
	return pids
}
