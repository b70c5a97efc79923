package builder

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// Limits of a base. Mandriva's rescue.clp unpacked to 45 MB, a live system of
// today has 4 GB.
const (
	maxBase        = 16 << 30
	maxBaseEntries = 2_000_000
	maxBaseName    = 4096 // PATH_MAX, linux/limits.h
)

// base is one reading of somebody else's tree into a Tree of ours.
type base struct {
	ctx     context.Context
	tree    *Tree
	scratch string // folder for files out of archives
	files   int
	skipped int // sockets, which no image keeps
}

// readBase reads a folder, or an image of any form that forms knows. Nothing is
// written but to numbered files of ours, so a name can't lead out.
func (r *run) readBase(ctx context.Context, from string) (*Tree, string, error) {
	fi, err := os.Stat(from)
	if err != nil {
		return nil, "", err
	}
	b := &base{ctx: ctx, tree: NewTree(), scratch: filepath.Join(r.scratch, "base")}
	if err := os.MkdirAll(b.scratch, 0o700); err != nil {
		return nil, "", err
	}
	if fi.IsDir() {
		err = r.long("reading the base", func() error { return b.folder(from) })
		return b.tree, "folder", err
	}
	what, err := describe(from)
	if err != nil {
		return nil, "", err
	}
	var kinds []string
	err = r.long("reading the base", func() error { kinds, err = b.file(from); return err })
	if err == nil && len(b.tree.entries) == 0 {
		err = errors.New("nothing is in it")
	}
	if b.skipped > 0 {
		r.warn("base %s: %d sockets are left out", filepath.Base(from), b.skipped)
	}
	return b.tree, strings.Join(kinds, " with ") + ", sha256 " + what.SHA256, err
}

// A form is a kind of file, known by its first bytes: an archive that is read
// into the tree, or a wrapper that is turned into another file.
type form struct {
	name   string
	at     int
	magic  string
	read   func(b *base, file string) error
	unwrap func(b *base, file string) (string, error)
}

// headLength is what the forms look at: an ISO 9660 file system says so at 32769.
const headLength = 32769 + 5

func forms() []form {
	return []form{
		{name: "squashfs", magic: "hsqs", read: (*base).squashfs},
		{name: "cpio", magic: "070701", read: (*base).cpio},
		{name: "cpio", magic: "070702", read: (*base).cpio},
		{name: "tar", at: 257, magic: "ustar", read: (*base).tar},
		{name: "ISO 9660", at: 32769, magic: "CD001", read: (*base).iso},
		{name: "gzip", magic: "\x1f\x8b", unwrap: unpackWith(func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })},
		{name: "zstd", magic: "\x28\xb5\x2f\xfd", unwrap: unpackWith(func(r io.Reader) (io.Reader, error) {
			return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		})},
		{name: "xz", magic: "\xfd7zXZ\x00", unwrap: unpackWith(func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) })},
		{name: "cloop", magic: "#!/bin/sh\n#V2.0 Format\n", unwrap: (*base).cloop},
	}
}

// known are forms that aren't taken, with what to do.
func known(head []byte) error {
	at := func(n int, magic string) bool {
		return len(head) >= n+len(magic) && string(head[n:n+len(magic)]) == magic
	}
	switch {
	case at(0, "#!/bin/sh\n#V"):
		return errors.New("compressed loop of another version than 2.0: turn it into an ISO 9660 file with extract_compressed_fs (Debian package cloop-utils)")
	case at(0, "070707") || at(0, "\xc7\x71"):
		return errors.New("cpio in its old form: unpack it and name the folder, or pack it with cpio -H newc")
	case at(1080, "\x53\xef"): // fs/ext4/ext4.h: EXT4_SUPER_MAGIC, at 1024+56
		return errors.New("file system ext2, ext3 or ext4: mount it with -o loop,ro and name the folder")
	case at(0, "BZh") || at(0, "\x5d\x00\x00"):
		return errors.New("packed with bzip2 or lzma: unpack it first")
	}
	return errors.New("neither a folder nor squashfs, cpio (newc), tar, ISO 9660 or a compressed loop, plain or packed with gzip, zstd or xz")
}

// file reads an image, taking off one wrapper after another.
func (b *base) file(file string) (kinds []string, err error) {
	for range 4 { // rescue.iso.gz in a cloop, and then some
		f, err := formOf(file)
		if err != nil {
			return kinds, err
		}
		kinds = append(kinds, f.name)
		if f.read != nil {
			if err := f.read(b, file); err != nil {
				return kinds, fmt.Errorf("read as %s: %w", f.name, err)
			}
			return kinds, nil
		}
		if file, err = f.unwrap(b, file); err != nil {
			return kinds, fmt.Errorf("unpack as %s: %w", f.name, err)
		}
	}
	return kinds, fmt.Errorf("packed more than 4 times: %v", kinds)
}

func formOf(file string) (*form, error) {
	head, err := headOf(file)
	if err != nil {
		return nil, err
	}
	for _, f := range forms() {
		if len(head) >= f.at+len(f.magic) && string(head[f.at:f.at+len(f.magic)]) == f.magic {
			return &f, nil
		}
	}
	return nil, known(head)
}

// checkBases refuses what can't be a base before minutes of work go into it.
func (r *run) checkBases() error {
	for _, img := range r.Images {
		if img.Base == "" {
			continue
		}
		fi, err := os.Stat(img.Base)
		if err == nil && !fi.IsDir() {
			_, err = formOf(img.Base)
		}
		if err != nil {
			return fmt.Errorf("image %s: base %s: %w", img.Name, img.Base, err)
		}
	}
	return nil
}

func headOf(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, headLength)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return head[:n], nil
}

func unpackWith(open func(io.Reader) (io.Reader, error)) func(*base, string) (string, error) {
	return func(b *base, file string) (string, error) {
		in, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer in.Close()
		r, err := open(in)
		if err != nil {
			return "", err
		}
		if c, ok := r.(interface{ Close() }); ok {
			defer c.Close()
		}
		return b.keep(r, maxBase)
	}
}

// keep writes what r gives into a file of ours.
func (b *base) keep(r io.Reader, limit int64) (string, error) {
	if err := b.ctx.Err(); err != nil {
		return "", err
	}
	b.files++
	name := filepath.Join(b.scratch, fmt.Sprint(b.files))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(r, limit+1))
	if err != nil {
		return "", err
	}
	if n > limit {
		return "", fmt.Errorf("more than %d bytes", limit)
	}
	return name, f.Close()
}

// put adds an entry of an archive; a later one of the same name takes its
// place, as whoever unpacks would have it.
func (b *base) put(e *Entry) error {
	if len(e.Name) > maxBaseName || len(e.Target) > maxBaseName {
		return fmt.Errorf("entry %.60q…: name or target of more than %d bytes", e.Name, maxBaseName)
	}
	if strings.Contains("/"+e.Name+"/", "/../") {
		return fmt.Errorf("entry %q: climbs out by \"..\"", e.Name)
	}
	if len(b.tree.entries) > maxBaseEntries {
		return fmt.Errorf("more than %d entries", maxBaseEntries)
	}
	e.Name, e.foreign = cleanName(e.Name), true
	if e.Name == "" {
		return nil // the root itself
	}
	if e.Mode.Type() == fs.ModeSocket {
		b.skipped++
		return nil
	}
	if old := b.tree.entries[e.Name]; old != nil && !(old.Mode.IsDir() && e.Mode.IsDir()) {
		if old.Mode.IsDir() {
			return fmt.Errorf("entry %q: is a folder before and something else now", e.Name)
		}
		delete(b.tree.entries, e.Name)
	}
	return b.tree.add(e)
}

// folder reads a folder of this machine. No link in it is followed.
func (b *base) folder(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: no owner known", name)
		}
		e := &Entry{Name: name, Mode: fi.Mode(), UID: int(st.Uid), GID: int(st.Gid)}
		switch {
		case fi.Mode()&fs.ModeSymlink != 0:
			if e.Target, err = root.Readlink(name); err != nil {
				return err
			}
		case fi.Mode()&fs.ModeDevice != 0:
			e.Major, e.Minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		case fi.Mode().IsRegular():
			e.read = func() ([]byte, error) { return root.ReadFile(name) }
		}
		return b.put(e)
	})
}

// squashfs has sqfs2tar(1) read it.
func (b *base) squashfs(file string) error {
	return b.viaTar("squashfs-tools-ng", "sqfs2tar", "--no-xattr", "--no-skip", file)
}

// iso has bsdtar(1) read it, with the names and modes of Rock Ridge.
func (b *base) iso(file string) error {
	return b.viaTar("libarchive-tools", "bsdtar", "-c", "-f", "-", "--format=pax", "@"+file)
}

func (b *base) viaTar(pkg, program string, args ...string) error {
	c := exec.CommandContext(b.ctx, program, args...)
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s (Debian package %s): %w", program, pkg, err)
	}
	name, kerr := b.keep(out, maxBase)
	if kerr != nil {
		c.Process.Kill()
	}
	err = c.Wait()
	switch {
	case kerr != nil:
		return fmt.Errorf("%s: %w", program, kerr)
	case err != nil || errs.Len() > 0: // both also warn of what they pass over
		return fmt.Errorf("%s: %w: %s", program, errors.Join(err, errPartial), bytes.TrimSpace(errs.Bytes()))
	}
	return b.tar(name)
}

// errPartial is what a program's complaint means whatever its status.
var errPartial = errors.New("not all could be read")
