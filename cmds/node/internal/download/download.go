// Package download gets stage 2's image from an ordinary file server into this
// machine's memory: by HTTP, by FTP, or by NFS with the kernel's client. It
// knows no golden node and takes part in no chain, and it mounts nothing of
// what it got.
//
//	http ─┐
//	ftp  ─┼─ open(name, from) ─▶ copy ─▶ part ─▶ what is it? whole? which hash? ─▶ Path
//	nfs  ─┘        ▲               │ broken off: from where it stopped
//	               └───────────────┘
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Folder is where a server has the image, below its own folder (the manual's
// /SERVER/install/stage2/).
const Folder = "install/stage2"

// Names are the image's names, in the order in which they are asked for: ours,
// and the manual's.
func Names() []string { return []string{"rescue.sqfs", "rescue.clp"} }

// Methods are the words of method: that this package is for.
func Methods() []string { return []string{"nfs", "http", "ftp"} }

// Does says whether method is one of Methods.
func Does(method string) bool { return slices.Contains(Methods(), method) }

// Config says what to get from where.
type Config struct {
	Method    string // "http", "ftp", "nfs"
	Server    string // HOST or HOST:PORT
	Directory string // the server's folder that has install/stage2 in it
	Path      string // where the image goes: a file on a file system in memory
	Name      string // of this machine, unlike any other's: NFS 4 servers keep their clients apart by it

	Sums     Sums // of the images that may be taken; none: any
	Unsigned bool // take one that Sums doesn't have

	Load func(module string) error // loads a kernel module; nfs only
	Say  func(line string)         // tells a person; may be nil

	Stall time.Duration // without one byte; 0: 30 s
	Room  int64         // bytes the image may have; 0: what memory allows
}

// Image is what came.
type Image struct {
	URL    string
	Bytes  int64
	Kind   Kind
	SHA256 string
}

// ErrUnreachable is wrapped when there is no server, or one that doesn't work
// at present: trying again may help. Whatever else goes wrong will go wrong
// again.
var ErrUnreachable = errors.New("server can't be reached")

// errMissing is a server that has no file of this name.
var errMissing = errors.New("no such file")

// limit is for all of it: 45 Mbyte, as the manual's stage2.img has, at the
// speed of an analog modem.
const limit = 4 * time.Hour

// defaultStall is longer than a switch needs to learn a new topology (IEEE
// 802.1D: 2 × 15 s, less what has passed).
const defaultStall = 30 * time.Second

// files is one server: a name is opened at an offset.
type files interface {
	// open gives the rest of a file from an offset, or the whole when it
	// can't: at says which. size is of the whole file, -1 when unknown.
	open(ctx context.Context, name string, from int64) (rc io.ReadCloser, at, size int64, err error)
	url(name string) string
	close()
}

// Get gets the image. What it says of the server is in its errors.
func Get(ctx context.Context, c Config) (Image, error) {
	c.defaults()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if c.Room == 0 {
		var err error
		if c.Room, err = room(filepath.Dir(c.Path)); err != nil {
			return Image{}, err
		}
	}
	srv, err := c.connect(ctx)
	if err != nil {
		return Image{}, err
	}
	defer srv.close()
	part, err := os.CreateTemp(filepath.Dir(c.Path), ".rescue-*")
	if err != nil {
		return Image{}, fmt.Errorf("make room for the image: %w", err)
	}
	defer os.Remove(part.Name())
	defer part.Close()
	name, err := c.first(ctx, srv, part)
	if err != nil {
		return Image{}, err
	}
	img, err := c.judge(ctx, srv, name, part)
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", srv.url(name), err)
	}
	if err := os.Rename(part.Name(), c.Path); err != nil {
		return Image{}, fmt.Errorf("put the image in place: %w", err)
	}
	return img, nil
}

func (c *Config) defaults() {
	if c.Stall == 0 {
		c.Stall = defaultStall
	}
	if c.Say == nil {
		c.Say = func(string) {}
	}
	c.Directory = path.Join("/", c.Directory)
}

func (c Config) connect(ctx context.Context) (files, error) {
	if c.Server == "" {
		return nil, fmt.Errorf("method:%s needs server:HOST in automatic=", c.Method)
	}
	switch c.Method {
	case "http":
		return newHTTP(c), nil
	case "ftp":
		return newFTP(c), nil
	case "nfs":
		return newNFS(ctx, c)
	}
	return nil, fmt.Errorf("method:%s is none of %s", c.Method, strings.Join(Methods(), ", "))
}

// first gets the first file that is there, of those it may be.
func (c Config) first(ctx context.Context, srv files, part *os.File) (string, error) {
	var missing []error
	for _, name := range Names() {
		err := c.fetch(ctx, srv, name, part)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, errMissing) {
			return "", fmt.Errorf("%s: %w", srv.url(name), err)
		}
		missing = append(missing, err)
	}
	return "", fmt.Errorf("neither %s in %s: %w", strings.Join(Names(), " nor "), srv.url(""), missing[0])
}
