package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// httpPort is RFC 9110's, 4.2.1.
const httpPort = 80

// maxRedirects within the one host; a server that puts files elsewhere below
// itself needs one or two.
const maxRedirects = 5

// httpFiles is a folder on an HTTP server.
type httpFiles struct {
	base   url.URL
	client *http.Client
	tag    map[string]string // what If-Range takes, by name
}

func newHTTP(c Config) *httpFiles {
	host, port := hostPort(c.Server, httpPort)
	at := net.JoinHostPort(host, port)
	if port == strconv.Itoa(httpPort) {
		at = strings.TrimSuffix(at, ":"+port)
	}
	return &httpFiles{
		base: url.URL{Scheme: "http", Host: at, Path: path.Join(c.Directory, Folder)},
		tag:  map[string]string{},
		client: &http.Client{CheckRedirect: sameHost, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				return dial(context.WithoutCancel(ctx), address, c.Stall) // the transport closes it with the request
			},
			DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10, ResponseHeaderTimeout: c.Stall,
		}},
	}
}

// errRedirect is a server that sends us elsewhere.
var errRedirect = errors.New("redirect refused")

// sameHost follows a redirect that stays with the server that the boot line
// names: stage 1 has no certificates by which it could know another.
func sameHost(req *http.Request, via []*http.Request) error {
	to := req.URL.Redacted()
	switch {
	case req.URL.Scheme != "http" || req.URL.Hostname() != via[0].URL.Hostname():
		return fmt.Errorf("%w: to %s, which is another server than %s", errRedirect, to, via[0].URL.Hostname())
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d, the last to %s", errRedirect, maxRedirects, to)
	}
	return nil
}

func (h *httpFiles) url(name string) string { return h.base.JoinPath(name).String() }

func (h *httpFiles) close() { h.client.CloseIdleConnections() }

func (h *httpFiles) open(ctx context.Context, name string, from int64) (io.ReadCloser, int64, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url(name), nil)
	if err != nil {
		return nil, 0, 0, err
	}
	if from > 0 && h.tag[name] != "" { // without it, what comes could be of another file (RFC 9110, 13.1.5)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		req.Header.Set("If-Range", h.tag[name])
	}
	resp, err := h.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // it repeats the URL
		}
		if errors.Is(err, errRedirect) || ctx.Err() != nil {
			return nil, 0, 0, err
		}
		return nil, 0, 0, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	at, size, err := h.answer(resp, from)
	if err != nil {
		resp.Body.Close()
		return nil, 0, 0, err
	}
	if h.tag[name] = resp.Header.Get("ETag"); h.tag[name] == "" || strings.HasPrefix(h.tag[name], "W/") {
		h.tag[name] = resp.Header.Get("Last-Modified")
	}
	return resp.Body, at, size, nil
}

// answer reads the status and the header.
func (h *httpFiles) answer(resp *http.Response, from int64) (at, size int64, err error) {
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound, code == http.StatusGone:
		return 0, 0, fmt.Errorf("%w: %s", errMissing, resp.Status)
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return 0, 0, fmt.Errorf("%w: it answers %s", ErrUnreachable, resp.Status)
	case code != http.StatusOK && code != http.StatusPartialContent:
		return 0, 0, fmt.Errorf("the server answers %s", resp.Status)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusPartialContent {
		kind = "" // busybox calls the rest of any file a page
	}
	if kind == "text/html" || kind == "application/xhtml+xml" {
		return 0, 0, fmt.Errorf("the server answers with a page (Content-Type %s), not with an image", kind)
	}
	if resp.Header.Get("Content-Encoding") != "" {
		return 0, 0, fmt.Errorf("the server answers in Content-Encoding %s, which nobody asked for", resp.Header.Get("Content-Encoding"))
	}
	if resp.StatusCode == http.StatusOK {
		return 0, resp.ContentLength, nil
	}
	at, size, ok := contentRange(resp.Header.Get("Content-Range"))
	if !ok || at != from {
		return 0, 0, fmt.Errorf("the server answers Content-Range %q to a request from byte %d", resp.Header.Get("Content-Range"), from)
	}
	return at, size, nil
}

// contentRange reads "bytes 100-199/200" (RFC 9110, 14.4).
func contentRange(s string) (at, size int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, total, ok := strings.Cut(s, "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, false
	}
	at, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	size, err3 := int64(-1), error(nil)
	if total != "*" {
		size, err3 = strconv.ParseInt(total, 10, 64)
	}
	if errors.Join(err, err2, err3) != nil || at < 0 || end < at || size >= 0 && end >= size || size < -1 {
		return 0, 0, false
	}
	return at, size, true
}
