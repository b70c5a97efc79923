package download

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The options are those that the kernel's client reads (fs/nfs/fs_context.c).
func TestMountData(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.1.253"), netip.MustParseAddr("fd77::1")
	for _, tt := range []struct {
		version string
		addr    netip.Addr
		port    string
		want    string
	}{
		{"3", v4, "2049", "vers=3,addr=10.0.1.253,proto=tcp,soft,timeo=50,retrans=2,nolock,mountvers=3,mountproto=tcp"},
		{"4.1", v4, "2049", "vers=4.1,addr=10.0.1.253,proto=tcp,soft,timeo=50,retrans=2,clientaddr=10.0.1.9"},
		{"4.2", v6, "20049", "vers=4.2,addr=fd77::1,proto=tcp6,soft,timeo=50,retrans=2,clientaddr=10.0.1.9,port=20049"},
	} {
		if got := mountData(tt.version, tt.addr, netip.MustParseAddr("10.0.1.9"), tt.port); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestNFSUnreachable(t *testing.T) {
	needs(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	c := config(t, "nfs")
	c.Server, c.Load = ln.Addr().String(), func(string) error { return nil }
	if err := refused(t, c, "nfs://"+c.Server+"/cs4/install/stage2", "connection refused"); !errors.Is(err, ErrUnreachable) {
		t.Error("not worth another try")
	}
}

// What hangs in the kernel is left there.
func TestNFSHangs(t *testing.T) {
	n := &nfsFiles{server: "10.0.1.253", dir: filepath.Join(t.TempDir(), "none")}
	end := make(chan struct{})
	defer close(end)
	err := n.bounded(t.Context(), 50*time.Millisecond, func() error { <-end; return nil })
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "NFS server 10.0.1.253 says nothing for 50ms") {
		t.Errorf("got %v", err)
	}
	err = n.bounded(t.Context(), time.Minute, func() error { return &os.PathError{Op: "read", Path: "x", Err: unix.ETIMEDOUT} })
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("the kernel's own time-out is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.bounded(ctx, time.Minute, func() error { <-end; return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A server's links lead nowhere out of its own folder.
func TestOpenIn(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	for name, content := range map[string]string{outside: "secret", filepath.Join(dir, "real"): "0123456789"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"inside": "real", "absolute": outside, "up": "../../../../../../etc/passwd"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"real", "inside"} {
		f, err := openIn(dir, name, 4)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 16)
		n, _ := f.Read(b)
		f.Close()
		if string(b[:n]) != "456789" {
			t.Errorf("%s: read %q", name, b[:n])
		}
	}
	for _, name := range []string{"absolute", "up", "pipe", "."} {
		if f, err := openIn(dir, name, 0); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
	}
	if _, err := openIn(dir, "none", 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestReadSums(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	got, err := ReadSums(strings.NewReader("# both\n" + sum + "  a/rescue.sqfs\n\n" + strings.ToUpper(sum) + " *rescue.clp\n"))
	if err != nil || got["rescue.sqfs"] != sum || got["rescue.clp"] != sum || !got.has(sum) {
		t.Errorf("got %v, %v", got, err)
	}
	for text, want := range map[string]string{
		"": "no hash", sum + "\n<html>": "line 2", sum[2:] + "  x": "line 1", strings.Repeat("# long\n", maxSums): "more than",
	} {
		if _, err := ReadSums(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", text, err, want)
		}
	}
}

func TestAvailable(t *testing.T) {
	if n, ok := available([]byte("MemTotal:  1024 kB\nMemAvailable:   2048 kB\n")); !ok || n != 2<<20 {
		t.Errorf("got %d, %v", n, ok)
	}
	for _, s := range []string{"", "MemAvailable:\n", "MemAvailable: x kB\n", "MemAvailable: -4 kB\n"} {
		if _, ok := available([]byte(s)); ok {
			t.Errorf("%q was taken", s)
		}
	}
	if n, err := room(t.TempDir()); err != nil || n <= 0 {
		t.Errorf("room here: %d, %v", n, err)
	}
}

func FuzzReadSums(f *testing.F) {
	f.Add(strings.Repeat("ab", 32) + "  rescue.sqfs\n")
	f.Add("# x\n" + strings.Repeat("AB", 32) + " *a/b")
	f.Fuzz(func(t *testing.T, s string) {
		sums, err := ReadSums(strings.NewReader(s))
		if (err == nil) != (len(sums) > 0) {
			t.Errorf("%d sums, and %v", len(sums), err)
		}
		for name, sum := range sums {
			if len(sum) != 64 || strings.Contains(name, "/") && name != "/" {
				t.Errorf("%q: %q", name, sum)
			}
		}
	})
}

func FuzzKindOf(f *testing.F) {
	squash := make([]byte, squashSuper)
	copy(squash, "hsqs")
	squash[squashMajor], squash[squashBytes] = 4, 96
	ext := make([]byte, 2*extSuper)
	ext[extMagic], ext[extMagic+1], ext[extBlocks] = 0x53, 0xef, 9
	for _, s := range [][]byte{squash, ext, []byte("<html>"), nil} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, size, err := kindOf(b)
		if (err == nil) != (kind != "") || err == nil && size <= 0 {
			t.Errorf("%q, %d, %v", kind, size, err)
		}
	})
}
