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
	"strings"
	"time"
)

const (
	headerTime     = 5 * time.Second  // for the header of a request: a slow sender of headers is no node
	idleTime       = 30 * time.Second // between two requests
	maxHeaderBytes = 16 << 10         // firmware sends some 200 bytes
	httpChunk      = 64 << 10         // this much has to go out …
	chunkTime      = 30 * time.Second // … in this time, however large the file: 17 kbit/s
)

// serveHTTP serves the same names as TFTP, until the listener fails or ctx
// ends.
func (s *Server) serveHTTP(ctx context.Context, ln net.Listener) error {
	return s.serveHTTPWithin(ctx, ln, chunkTime)
}

func (s *Server) serveHTTPWithin(ctx context.Context, ln net.Listener, chunk time.Duration) error {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("BUG: listener is a %T", ln)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.getHTTP(&movingWriter{ResponseWriter: w, control: http.NewResponseController(w), chunk: chunk}, r)
		}),
		// No ReadTimeout: net/http would take its end in the middle of a
		// long answer for a client that went away. Bodies are not read.
		ReadHeaderTimeout:            headerTime,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(newCappedListener(tcp))
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve http: %w", err)
}

// getHTTP answers one request. net/http recovers from panics itself.
func (s *Server) getHTTP(w *movingWriter, r *http.Request) {
	if status, why := refuseHTTP(r); status != 0 {
		// What may follow is a body that nobody reads, or worse: a second
		// request that only we take for one.
		_ = w.control.SetReadDeadline(time.Now()) // fails on a dead connection only
		w.Header().Set("Connection", "close")
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", "GET, HEAD")
		}
		http.Error(w, why, status)
		return
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "no address", http.StatusBadRequest)
		return
	}
	ip := from.Addr().Unmap()
	if !s.mayAsk(ip) {
		http.Error(w, "not for this network", http.StatusForbidden)
		return
	}
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
	http.ServeContent(w, r, "", time.Time{}, f.content)
	if r.Method == http.MethodHead || w.status >= http.StatusMultipleChoices {
		return
	}
	err = w.err
	if err == nil && r.Context().Err() != nil {
		err = errors.New("client went away")
	}
	s.sent("HTTP", f, ip, w.n, err)
}

// refuseHTTP finds what no boot loader sends. A body has no meaning with GET,
// and who disagrees with us about its length has a second request in it. Many
// ranges of one file are a way to have much read and sent for a short header
// (RFC 9110, 14.2 and 17.15: a server may reject them).
func refuseHTTP(r *http.Request) (status int, why string) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return http.StatusMethodNotAllowed, "only GET and HEAD"
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return http.StatusBadRequest, "a request with a body"
	case strings.Contains(strings.Join(r.Header.Values("Range"), ","), ","):
		return http.StatusRequestedRangeNotSatisfiable, "one range at a time"
	}
	return 0, ""
}

// contentType is fixed by what firmware wants, not guessed by content.
func contentType(f *served) string {
	if f.config {
		return "text/plain; charset=utf-8"
	}
	switch strings.ToLower(path.Ext(f.name)) {
	case ".efi":
		return "application/efi" // UEFI 2.10, 24.7.2
	case ".ipxe", ".cfg", ".txt":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// movingWriter notes how much of a body went out, and gives each part of it
// its time: a slow client that takes something is served to the end, one that
// takes nothing is cut.
type movingWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	chunk   time.Duration // for httpChunk
	status  int
	n       int64
	err     error
}

func (m *movingWriter) WriteHeader(status int) {
	m.status = status
	m.ResponseWriter.WriteHeader(status)
}

func (m *movingWriter) extend() {
	_ = m.control.SetWriteDeadline(time.Now().Add(m.chunk)) // fails on a dead connection only
}

// ReadFrom keeps the kernel's sendfile within reach of net/http, which looks
// for it behind one LimitedReader but not behind two.
func (m *movingWriter) ReadFrom(r io.Reader) (int64, error) {
	total := int64(0)
	for m.err == nil {
		part := &io.LimitedReader{R: r, N: httpChunk}
		whole, limited := r.(*io.LimitedReader)
		if limited {
			part.R, part.N = whole.R, min(part.N, whole.N)
		}
		want := part.N
		m.extend()
		n, err := io.Copy(m.ResponseWriter, part)
		total, m.n, m.err = total+n, m.n+n, err
		if limited {
			whole.N -= n
		}
		if n < want || want == 0 {
			break
		}
	}
	return total, m.err
}

func (m *movingWriter) Write(p []byte) (int, error) {
	m.extend()
	n, err := m.ResponseWriter.Write(p)
	m.n += int64(n)
	m.err = err
	return n, err
}
