package netboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"time"

	"golang.org/x/net/netutil"
)

const (
	maxHTTPConns   = 1024             // nodes, and some browsers
	headerTime     = 5 * time.Second  // for a whole request: a slow sender of headers is no node
	idleTime       = 30 * time.Second // between two requests
	maxHeaderBytes = 16 << 10         // firmware sends some 200 bytes
)

// serveHTTP serves the same names as TFTP, until the listener fails or ctx
// ends.
func (s *Server) serveHTTP(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.getHTTP),
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       headerTime,
		WriteTimeout:      transferTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(netutil.LimitListener(ln, maxHTTPConns))
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve http: %w", err)
}

// getHTTP answers one request. net/http recovers from panics itself.
func (s *Server) getHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "no address", http.StatusBadRequest)
		return
	}
	ip := from.Addr().Unmap()
	f, err := s.lookup(r.URL.Path, ip)
	if err != nil {
		http.Error(w, s.notFound("HTTP", r.URL.Path, ip, err).Error(), http.StatusNotFound)
		return
	}
	defer func() { _ = f.content.Close() }() // was only read
	w.Header().Set("Content-Type", contentType(f))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if f.config {
		w.Header().Set("Cache-Control", "no-store") // another answer a minute later
	}
	c := &countingWriter{ResponseWriter: w}
	http.ServeContent(c, r, "", time.Time{}, f.content)
	if r.Method == http.MethodHead {
		return
	}
	err = c.err
	if err == nil && r.Context().Err() != nil {
		err = errors.New("client went away")
	}
	s.sent("HTTP", f, ip, c.n, err)
}

// contentType is fixed by what firmware wants, not guessed by content.
func contentType(f *served) string {
	switch {
	case f.config:
		return "text/plain; charset=utf-8"
	case path.Ext(f.name) == ".efi":
		return "application/efi" // UEFI 2.10, 24.7.2
	}
	return "application/octet-stream"
}

// countingWriter notes how much of a body went out.
type countingWriter struct {
	http.ResponseWriter
	n   int64
	err error
}

// ReadFrom keeps the kernel's sendfile within reach of net/http.
func (c *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.n += n
	c.err = err
	return n, err
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	c.err = err
	return n, err
}
