package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxIdle is how often in a row a server may break off without a byte that
// wasn't here before.
const maxIdle = 3

// breakPause is between breaking off and going on.
const breakPause = time.Second

// errTooLarge is a file that would not fit.
var errTooLarge = errors.New("too large")

// progressEvery is between two lines about how far it is.
const progressEvery = 10 * time.Second

// fetch gets one file, going on where it broke off.
func (c Config) fetch(ctx context.Context, srv files, name string, part *os.File) error {
	g := &getting{Config: c, srv: srv, name: name, part: part, size: -1, said: time.Now()}
	for idle := 0; ; {
		before := g.most
		err := g.once(ctx)
		if err == nil || !errors.Is(err, errBroken) || errors.Is(err, ErrUnreachable) {
			return err
		}
		idle++
		if g.most > before {
			idle = 0
		}
		if idle == maxIdle {
			return fmt.Errorf("%w, %d times", err, maxIdle)
		}
		c.Say(fmt.Sprintf("%s: %v; going on from there", srv.url(name), err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(breakPause):
		}
	}
}

// getting is one file on its way.
type getting struct {
	Config
	srv  files
	name string
	part *os.File

	size int64 // of the whole; -1: nobody said
	have int64 // in part
	most int64 // the most that ever was
	said time.Time
}

// errBroken is a transfer that ended before the file did.
var errBroken = errors.New("half a file")

// once opens the file and copies what comes.
func (g *getting) once(ctx context.Context) error {
	rc, at, size, err := g.srv.open(ctx, g.name, g.have)
	if err != nil {
		return err
	}
	defer rc.Close()
	if at != 0 && at != g.have || g.size >= 0 && size != g.size && at != 0 {
		return fmt.Errorf("the server goes on at byte %d of %d, and %d of %d were asked for", at, size, g.have, g.size)
	}
	g.have, g.size = at, size
	if size > g.Room {
		return fmt.Errorf("%w: %d bytes, and this machine's memory has room for %d", errTooLarge, size, g.Room)
	}
	if _, err := g.part.Seek(at, io.SeekStart); err != nil {
		return err
	}
	if err := g.part.Truncate(at); err != nil {
		return err
	}
	cerr := g.copy(rc)
	if errors.Is(cerr, errTooLarge) || errors.Is(cerr, errWrite) || ctx.Err() != nil {
		return errors.Join(cerr, ctx.Err())
	}
	if cerr == nil {
		cerr = rc.Close() // FTP says here whether it was all
	}
	if cerr == nil && (g.size < 0 || g.have == g.size) {
		return nil
	}
	whole := "?"
	if g.size >= 0 {
		whole = fmt.Sprint(g.size)
	}
	if cerr == nil {
		return fmt.Errorf("%w: %d of %s bytes", errBroken, g.have, whole)
	}
	return fmt.Errorf("%w: %d of %s bytes: %w", errBroken, g.have, whole, cerr)
}

// errWrite is a failure on our side.
var errWrite = errors.New("write")

func (g *getting) copy(r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if g.have+int64(n) > g.Room {
				return fmt.Errorf("%w: more than the %d bytes that this machine's memory has room for", errTooLarge, g.Room)
			}
			if _, werr := g.part.Write(buf[:n]); werr != nil {
				return fmt.Errorf("%w: %w", errWrite, werr)
			}
			g.have += int64(n)
			g.most = max(g.most, g.have)
			g.tell()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// tell says now and then how far it is.
func (g *getting) tell() {
	if time.Since(g.said) < progressEvery {
		return
	}
	g.said = time.Now()
	line := fmt.Sprintf("%s: %d bytes", g.srv.url(g.name), g.have)
	if g.size >= 0 {
		line += fmt.Sprintf(" of %d", g.size)
	}
	g.Say(line)
}
