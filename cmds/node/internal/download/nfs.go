package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// nfsPort is RFC 7530's, 3.1; servers of version 3 have it too, and tell by
// rpcbind if not.
const nfsPort = 2049

// nfsVersions are asked for in this order: a server refuses at once what it
// doesn't speak. mount.nfs(8) does the same.
func nfsVersions() []string { return []string{"4.2", "4.1", "4.0", "3"} }

// mountLimit is for one mount of a server that answers; the kernel's client
// gives up by itself after some 30 s (soft, timeo, retrans below).
const mountLimit = 45 * time.Second

// nfsFiles is a mounted export.
type nfsFiles struct {
	server, export string
	dir            string
	version        string
	stall          time.Duration
}

// newNFS mounts the export.
func newNFS(ctx context.Context, c Config) (*nfsFiles, error) {
	n := &nfsFiles{server: c.Server, export: c.Directory, stall: c.Stall}
	for _, m := range []string{"nfs", "nfsv3", "nfsv4"} {
		if err := c.Load(m); err != nil {
			return nil, fmt.Errorf("load the NFS client: %w", err)
		}
	}
	uniquify(c.Name)
	addr, self, port, err := c.probe(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", n.url(""), ErrUnreachable, err)
	}
	if n.dir, err = os.MkdirTemp(filepath.Dir(c.Path), ".nfs-*"); err != nil {
		return nil, fmt.Errorf("make a mount point: %w", err)
	}
	if err := n.mountAny(ctx, addr, self, port); err != nil {
		os.Remove(n.dir)
		return nil, err
	}
	c.Say(fmt.Sprintf("mounted %s:%s by NFS %s", n.server, n.export, n.version))
	return n, nil
}

// uniquify tells the kernel another name than the host's, which many nodes
// share: an NFS 4 server throws out one client for another of the same name
// (fs/nfs/nfs4proc.c, nfs4_init_uniform_client_string).
func uniquify(name string) {
	if name != "" { // without it only sharing a server with others is worse
		_ = os.WriteFile("/sys/module/nfs/parameters/nfs4_unique_id", []byte(name), 0o600)
	}
}

// probe connects, so that a server which isn't there is known before the
// kernel waits for it, and so that we know our own address towards it.
func (c Config) probe(ctx context.Context) (addr, self netip.Addr, port string, err error) {
	host, port := hostPort(c.Server, nfsPort)
	conn, err := (&net.Dialer{Timeout: min(dialLimit, c.Stall)}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return addr, self, port, err
	}
	defer conn.Close()
	addr = conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	self = conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	return addr, self, port, nil
}

// mountData is what mount.nfs(8) would give to the kernel (fs/nfs/fs_context.c).
// The client asks the mount protocol of version 3 itself; it locks nothing.
func mountData(version string, addr, self netip.Addr, port string) string {
	proto := "tcp"
	if addr.Is6() {
		proto = "tcp6"
	}
	words := []string{"vers=" + version, "addr=" + addr.String(), "proto=" + proto, "soft", "timeo=50", "retrans=2"}
	if version == "3" {
		words = append(words, "nolock", "mountvers=3", "mountproto="+proto)
	} else {
		words = append(words, "clientaddr="+self.String())
	}
	if port != fmt.Sprint(nfsPort) {
		words = append(words, "port="+port)
	}
	return strings.Join(words, ",")
}

// mountAny mounts by the first version that the server speaks.
func (n *nfsFiles) mountAny(ctx context.Context, addr, self netip.Addr, port string) error {
	source := addr.String()
	if addr.Is6() {
		source = "[" + source + "]"
	}
	source += ":" + n.export
	var errs []error
	for _, v := range nfsVersions() {
		data := mountData(v, addr, self, port)
		err := n.bounded(ctx, mountLimit, func() error {
			return unix.Mount(source, n.dir, "nfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, data)
		})
		if err == nil {
			n.version = v
			return nil
		}
		if errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return fmt.Errorf("%s: NFS %s: %w", n.url(""), v, err)
		}
		if !errors.Is(err, unix.EPROTONOSUPPORT) || v == "3" {
			errs = append(errs, fmt.Errorf("NFS %s: %w", v, err))
		}
	}
	return fmt.Errorf("mount %s: %w", source, errors.Join(errs...))
}

// bounded does what the kernel may never come back from. It tears at the mount
// then, so that what waits for the server ends; f may be left running.
func (n *nfsFiles) bounded(ctx context.Context, limit time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }() // ends by the kernel's own time limits, if not at once
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		if errors.Is(err, unix.ETIMEDOUT) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EHOSTUNREACH) {
			return fmt.Errorf("%w: NFS server %s: %w", ErrUnreachable, n.server, err)
		}
		return err
	case <-ctx.Done():
		n.tear()
		return ctx.Err()
	case <-t.C:
		n.tear()
		return fmt.Errorf("%w: NFS server %s says nothing for %s", ErrUnreachable, n.server, limit)
	}
}

// tear takes the mount away under whoever waits (umount2(2), MNT_FORCE).
func (n *nfsFiles) tear() {
	go func() { // may wait for the server in its turn
		_ = unix.Unmount(n.dir, unix.MNT_FORCE)
		_ = unix.Unmount(n.dir, unix.MNT_FORCE|unix.MNT_DETACH)
	}()
}

func (n *nfsFiles) url(name string) string {
	return "nfs://" + n.server + path.Join(n.export, Folder, name)
}

// close doesn't wait long: the image is in memory by now.
func (n *nfsFiles) close() {
	err := n.bounded(context.Background(), 5*time.Second, func() error { return unix.Unmount(n.dir, 0) })
	if err != nil {
		_ = unix.Unmount(n.dir, unix.MNT_FORCE|unix.MNT_DETACH)
	}
	_ = os.Remove(n.dir) // else an empty folder in memory stays
}

func (n *nfsFiles) open(ctx context.Context, name string, from int64) (io.ReadCloser, int64, int64, error) {
	var file *nfsFile
	err := n.bounded(ctx, n.stall, func() error {
		f, err := openIn(n.dir, filepath.Join(Folder, name), from)
		file = &nfsFile{f: f, n: n, ctx: ctx}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, 0, fmt.Errorf("%w: %w", errMissing, err)
	}
	if err != nil {
		return nil, 0, 0, err
	}
	st, err := file.f.Stat() // the kernel knows it since it opened the file
	if err != nil {
		return nil, 0, 0, err
	}
	return file, from, st.Size(), nil
}

// openIn opens a regular file below dir, and nothing to which a link on the
// server would lead out of it.
func openIn(dir, name string, from int64) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err == nil {
		_, err = f.Seek(from, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// nfsFile reads with a time limit.
type nfsFile struct {
	f   *os.File
	n   *nfsFiles
	ctx context.Context
}

// Read leaves b to the kernel when it gives up; whoever called doesn't use it
// again after an error.
func (r *nfsFile) Read(b []byte) (n int, err error) {
	got := make(chan int, 1)
	err = r.n.bounded(r.ctx, r.n.stall, func() error {
		n, err := r.f.Read(b)
		got <- n
		return err
	})
	select {
	case n = <-got:
	default:
	}
	return n, err
}

// Close may wait for a server that hangs.
func (r *nfsFile) Close() error { return r.n.bounded(r.ctx, r.n.stall, r.f.Close) }
