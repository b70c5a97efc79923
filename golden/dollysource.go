package golden

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// copies are the infiles as one source: each is a stream.
type copies struct {
	all   []*stream.Image
	names []string
	marks []string // of each when it was opened
}

func (c *copies) add(name string, img *stream.Image) error {
	c.all, c.names = append(c.all, img), append(c.names, name)
	mark, err := stream.Mark(name)
	c.marks = append(c.marks, mark)
	return err
}

// Streams announces them.
func (c *copies) Streams() []wire.Stream {
	var out []wire.Stream
	for _, i := range c.all {
		out = append(out, i.Streams()...)
	}
	return out
}

// ReadPiece fills buf with a piece.
func (c *copies) ReadPiece(id uint16, piece uint32, buf []byte) error {
	if int(id) >= len(c.all) {
		return fmt.Errorf("read piece %d: no stream %d", piece, id)
	}
	return c.all[id].ReadPiece(id, piece, buf)
}

// Torn tells what isn't sent as it should be; none is good.
func (c *copies) Torn() []string {
	var out []string
	for n, i := range c.all {
		out = append(out, i.Torn()...)
		if now, err := stream.Mark(c.names[n]); err == nil && now != c.marks[n] {
			out = append(out, c.names[n]+": was written to while it was sent")
		}
	}
	return out
}

// Digest names what is sent.
func (c *copies) Digest() string {
	h := blake3.New()
	for _, i := range c.all {
		fmt.Fprintln(h, i.Digest())
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Close closes the files.
func (c *copies) Close() error {
	var err error
	for _, i := range c.all {
		err = errors.Join(err, i.Close())
	}
	return err
}
