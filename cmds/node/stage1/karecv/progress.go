package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/wire"
)

// counted is a sink that knows how much went into it.
type counted struct {
	sink
	bytes atomic.Int64
}

func (c *counted) Put(stream uint16, piece uint32, data []byte) error {
	err := c.sink.Put(stream, piece, data)
	if err == nil {
		c.bytes.Add(int64(len(data)))
	}
	return err
}

// Grow takes in streams that golden announces on the way.
func (c *counted) Grow(streams []wire.Stream) error {
	if g, ok := c.sink.(chain.Grower); ok {
		return g.Grow(streams)
	}
	return errors.New("golden announces more than there was, and this takes no more")
}

// progress prints a line every few seconds until the function that it returns
// is called.
func progress(w io.Writer, streams []wire.Stream, c *counted) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(5 * time.Second)
		defer t.Stop()
		all, last := total(streams), int64(0)
		for {
			select {
			case <-done:
				return
			case <-t.C:
			}
			n := c.bytes.Load()
			fmt.Fprintf(w, "karecv: %d of %d MB, %.1f MB/s\n", n/1e6, all/1e6, float64(n-last)/5e6)
			last = n
		}
	})
	return func() { close(done); wg.Wait() }
}
