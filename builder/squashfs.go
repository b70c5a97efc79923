package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// WriteSquashfs packs a tree as squashfs with zstd. mksquashfs(1) reads the
// tree as a tar stream, so owners and modes are ours and not those of files
// in some scratch folder.
//
// Level 9: on a stage 2 of 76 MB it takes an eighth of the processor time of
// level 15 and the result is 6 % larger.
func WriteSquashfs(ctx context.Context, file string, t *Tree) error {
	// mksquashfs adds to a file that is there, unless told otherwise.
	c := exec.CommandContext(ctx, "mksquashfs", "-", file, "-tar", "-noappend",
		"-quiet", "-no-progress", "-no-xattrs", "-no-recovery", "-exit-on-error",
		"-comp", "zstd", "-Xcompression-level", "9", "-b", "256K",
		"-mkfs-time", "0", "-all-time", "0", "-reproducible",
		"-root-mode", "0755") // the stream has no root; mksquashfs would let everybody write there
	c.Env = withoutEnv(os.Environ(), "SOURCE_DATE_EPOCH") // it clashes with -mkfs-time
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start mksquashfs (Debian package squashfs-tools): %w", err)
	}
	werr := writeTar(in, t)
	in.Close()
	if err := c.Wait(); err != nil {
		return fmt.Errorf("mksquashfs: %w: %s", err, strings.TrimSpace(out.String()))
	}
	if werr != nil {
		return fmt.Errorf("feed mksquashfs: %w", werr)
	}
	return nil
}

func writeTar(w io.Writer, t *Tree) error {
	tw := tar.NewWriter(w)
	for _, e := range t.Sorted() {
		h := &tar.Header{Name: e.Name, Mode: tarMode(e.Mode), Uid: e.UID, Gid: e.GID, Format: tar.FormatGNU}
		var body []byte
		var err error
		switch e.Mode.Type() {
		case fs.ModeDir:
			h.Typeflag = tar.TypeDir
			h.Name += "/"
		case fs.ModeSymlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
		case fs.ModeDevice:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, e.Major, e.Minor
		case fs.ModeDevice | fs.ModeCharDevice:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, e.Major, e.Minor
		case fs.ModeNamedPipe:
			h.Typeflag = tar.TypeFifo
		default:
			h.Typeflag = tar.TypeReg
			if body, err = e.Content(); err != nil {
				return err
			}
			h.Size = int64(len(body))
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("tar entry %s: %w", e.Name, err)
		}
		if _, err := tw.Write(body); err != nil {
			return fmt.Errorf("tar entry %s: %w", e.Name, err)
		}
	}
	return tw.Close()
}

// tarMode has the three bits of inode(7) where tar has them.
func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, set := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= set
		}
	}
	return mode
}

func withoutEnv(env []string, names ...string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		drop := false
		for _, n := range names {
			drop = drop || n == name
		}
		if !drop {
			out = append(out, kv)
		}
	}
	return out
}
