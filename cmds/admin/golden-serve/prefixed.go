package main

import (
	"bytes"
	"io"
	"sync"
)

// shared is where the lines of several sessions go, whole ones only.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) prefixed(prefix string) *prefixed { return &prefixed{shared: s, prefix: prefix} }

// prefixed writes lines with the session's name before them.
type prefixed struct {
	shared *shared
	prefix string
	rest   []byte // of a line that has no end yet
}

// Write takes in part of a line, or several.
func (p *prefixed) Write(b []byte) (int, error) {
	p.shared.mu.Lock()
	defer p.shared.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		line := append([]byte(p.prefix), p.rest[:i+1]...)
		p.rest = p.rest[i+1:]
		if _, err := p.shared.w.Write(line); err != nil {
			return len(b), err
		}
	}
}
