package golden

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/archive"
	"github.com/kamethod/kamethod/golden/internal/blockuse"
	"github.com/kamethod/kamethod/golden/internal/dollyfile"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// DollyOptions say what golden-serve dolly is to do.
type DollyOptions struct {
	File     string   // dolly.cfg
	Mounts   []string // "sda1=/boot": partitions of the nodes that files are put on
	Force    bool     // an infile may be in use
	FarLinks bool     // symbolic links of archives may point out of their folders
	Named    []Named  // machines of a nodes file
	Spool    string   // folder for an unpacked stage 2; empty: where temporary files are
	Log      *slog.Logger
}

// Dolly is a configuration file of Dolly or Dolly+ and what it names, looked
// at: all that can be wrong before a machine comes.
type Dolly struct {
	Plan  wire.Plan
	Notes []string // what a person should check
	Fetch bool     // /dev/ram3: what is sent is stage 2 itself, and no disk is touched

	opt     DollyOptions
	file    *dollyfile.File
	clients clients
	src     *copies
}

// OpenDolly reads the file and opens what it names.
func OpenDolly(ctx context.Context, o DollyOptions) (*Dolly, error) {
	f, err := os.Open(o.File)
	if err != nil {
		return nil, fmt.Errorf("open dolly's configuration: %w", err)
	}
	defer f.Close()
	d := &Dolly{opt: o, src: &copies{}}
	if d.file, err = dollyfile.Parse(f, o.File); err != nil {
		return nil, err
	}
	d.Notes = d.file.Notes
	d.Plan = wire.Plan{Loader: wire.Loader{Kind: "none"}}
	if err := d.clients.find(ctx, d); err != nil {
		return nil, err
	}
	if err := d.mounts(); err != nil {
		return nil, err
	}
	for _, c := range d.file.Copies {
		if err := d.add(ctx, c); err != nil {
			return nil, errors.Join(err, d.src.Close())
		}
	}
	if err := d.apart(); err != nil {
		return nil, errors.Join(err, d.src.Close())
	}
	return d, nil
}

// Nodes is how many machines the file names.
func (d *Dolly) Nodes() int { return len(d.file.Clients) }

// Source is what is sent.
func (d *Dolly) Source() interface {
	Streams() []wire.Stream
	ReadPiece(stream uint16, piece uint32, buf []byte) error
} {
	return d.src
}

// Close lets go of the infiles.
func (d *Dolly) Close() error { return d.src.Close() }

// at is an error about a line of the file.
func (d *Dolly) at(line int, word, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %q: %w", d.opt.File, line, word, fmt.Errorf(format, args...))
}

// mounts reads --mount.
func (d *Dolly) mounts() error {
	for _, s := range d.opt.Mounts {
		dev, at, ok := strings.Cut(s, "=")
		dev = "/dev/" + strings.TrimPrefix(dev, "/dev/")
		if !ok || !path.IsAbs(at) || path.Clean(at) != at || path.Clean(dev) != dev || dev == "/dev" {
			return fmt.Errorf("--mount %s: want a partition of the nodes and where it is mounted: sda1=/boot", s)
		}
		if slices.ContainsFunc(d.Plan.Mounts, func(m wire.Mount) bool { return m.At == at }) {
			return fmt.Errorf("--mount %s: %s is given twice", s, at)
		}
		d.Plan.Mounts = append(d.Plan.Mounts, wire.Mount{Device: dev, At: at})
	}
	return nil
}

// form is how an infile is unpacked: Dolly decompresses, Dolly+ unpacks where
// it is told to.
func (d *Dolly) form(c dollyfile.Copy) (archive.Form, error) {
	f := archive.FormOf(c.In)
	switch {
	case d.file.Plus && !c.Cook:
		return archive.Form{}, nil
	case d.file.Plus && f == archive.Form{}:
		return f, d.at(c.Line, c.In, ">> unpacks by the infile's name, which ends in none of .tar .cpio .gz .Z .zst .xz (or both, as .tar.gz): > copies it as it is")
	case d.file.Plus:
		return f, nil
	}
	f.Archive = ""
	if c.Packed && f.Packing == "" {
		f.Packing = archive.Gzip // the only one that Dolly knows
	}
	return f, nil
}

// add opens one infile.
func (d *Dolly) add(ctx context.Context, c dollyfile.Copy) error {
	form, err := d.form(c)
	if err != nil {
		return err
	}
	if !d.opt.Force {
		if err := blockuse.Busy(c.In); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				err = fmt.Errorf("%w (--force sends it all the same)", err)
			}
			return d.at(c.Line, c.In, "%w", err)
		}
	}
	if isRAM(c.Out) {
		return d.addStage2(c, form)
	}
	x := wire.Copy{From: c.In, To: c.Out, Archive: form.Archive, Packing: form.Packing, FarLinks: d.opt.FarLinks && form.Archive != ""}
	img, err := stream.OpenImage(uint16(len(d.Plan.Copies)), c.In)
	if err != nil {
		return d.at(c.Line, c.In, "%w", err)
	}
	if err := d.src.add(c.In, img); err != nil {
		return d.at(c.Line, c.In, "%w", err)
	}
	x.Bytes = img.Streams()[0].Bytes
	if x.Cooked() {
		d.opt.Log.Info("reading what is packed", "file", c.In, "as", form)
		if x.Bytes, err = unpacked(ctx, c.In, form, d.opt.FarLinks); err != nil {
			return d.at(c.Line, c.In, "%w", err)
		}
	}
	if x.Bytes == 0 && form.Archive == "" && strings.HasPrefix(c.Out, "/dev/") {
		return d.at(c.Line, c.In, "is empty")
	}
	d.note(c, x)
	d.Plan.Copies = append(d.Plan.Copies, x)
	return nil
}

// isRAM tells whether an outfile is the RAM disk that was stage 2's.
func isRAM(out string) bool {
	n, ok := strings.CutPrefix(out, "/dev/ram")
	return ok && strings.Trim(n, "0123456789") == ""
}

// addStage2 opens what machines in stage 1 get as their stage 2. They need it
// unpacked.
func (d *Dolly) addStage2(c dollyfile.Copy, form archive.Form) error {
	if len(d.file.Copies) > 1 {
		return d.at(c.Line, c.Out, "stage 2 is sent by itself: give what goes to disks in another file, for the next golden-serve dolly")
	}
	if form.Archive != "" {
		return d.at(c.Line, c.In, "stage 2 is an image, and no archive")
	}
	name := c.In
	if form.Packing != "" {
		f, err := spoolUnpacked(c.In, form, d.opt.Spool)
		if err != nil {
			return d.at(c.Line, c.In, "%w", err)
		}
		defer os.Remove(f) // it is open by then
		name = f
	}
	img, err := stream.OpenImage(0, name)
	if err != nil {
		return d.at(c.Line, c.In, "%w", err)
	}
	d.Fetch = true
	d.Notes = append(d.Notes, fmt.Sprintf("%s is %s: it goes to machines in stage 1 (method:dolly) as their stage 2, and no disk is touched", c.Out, "their memory"))
	return d.src.add(name, img)
}

// note says what a person may not expect.
func (d *Dolly) note(c dollyfile.Copy, x wire.Copy) {
	if strings.HasPrefix(x.To, "/dev/") {
		return
	}
	for _, m := range d.Plan.Mounts {
		if m.At == "/" || x.To == m.At || strings.HasPrefix(x.To, m.At+"/") {
			return
		}
	}
	d.Notes = append(d.Notes, fmt.Sprintf("%s:%d: %s is in the nodes' memory, and gone when they boot: --mount sda1=%s puts it on a partition", d.opt.File, c.Line, x.To, path.Dir(x.To+"/x")))
}

// apart refuses to write a disk as a whole, and a part of it as well: what
// comes last would win. It refuses mounts of what isn't a file system, too.
func (d *Dolly) apart() error {
	for i, a := range d.Plan.Copies {
		for j, b := range d.Plan.Copies {
			on, part := layout.SplitPartition(strings.TrimPrefix(b.To, "/dev/"))
			if i != j && part > 0 && a.To == "/dev/"+on {
				return d.at(d.file.Copies[j].Line, b.To, "is a part of %s, which line %d writes", a.To, d.file.Copies[i].Line)
			}
		}
	}
	return nil
}

// unpacked reads an infile to its end: it is whole, and so much comes out of
// it. Of an archive every name is checked.
func unpacked(ctx context.Context, name string, form archive.Form, far bool) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r, err := archive.Decompress(&until{ctx, f}, form.Packing)
	if err != nil {
		return 0, fmt.Errorf("unpack: %w", err)
	}
	defer r.Close()
	if form.Archive == "" {
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			err = fmt.Errorf("unpack: %w", err)
		}
		return n, err
	}
	var n int64
	err = archive.Walk(r, form.Archive, func(e archive.Entry, _ io.Reader) error {
		n += e.Size
		return e.Check(far)
	})
	if errors.Is(err, archive.ErrLeaves) {
		err = fmt.Errorf("%w; nothing is sent (--allow-far-links lets symbolic links point outside)", err)
	}
	return n, err
}

// until is a reader that ends with a context.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

func spoolUnpacked(name string, form archive.Form, dir string) (_ string, err error) {
	in, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer in.Close()
	r, err := archive.Decompress(in, form.Packing)
	if err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	defer r.Close()
	out, err := os.CreateTemp(dir, "golden-serve-")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, r)
	if err = errors.Join(err, out.Close()); err != nil {
		err = errors.Join(fmt.Errorf("unpack to %s: %w", out.Name(), err), os.Remove(out.Name()))
	}
	return out.Name(), err
}
