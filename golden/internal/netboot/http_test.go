package netboot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const httpAddr = "10.77.0.1:8069"

// raw sends bytes and reads answers until the server closes or is silent.
func raw(text string) ([]*http.Response, error) {
	c, err := net.DialTimeout("tcp4", httpAddr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return nil, err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return nil, err
	}
	var all []*http.Response
	for in := bufio.NewReader(c); ; {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		method := http.MethodGet
		if strings.HasPrefix(text, http.MethodHead) {
			method = http.MethodHead
		}
		r, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return all, err
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return all, err
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		all = append(all, r)
	}
}

// What a bad client may send, with the statuses it gets: one answer for one
// request, and never a byte that isn't on the list.
func TestHostileHTTP(t *testing.T) {
	l := newLab(t)
	l.write("secret", "SECRET")
	c := l.host(macA, "10.77.0.10/24")
	srv := l.ready(serveSpec{DHCP: DHCPOff})
	const hello = "GET /pxelinux.0 HTTP/1.1\r\nHost: x\r\n"
	many := make([]string, 3000)
	for i := range many {
		many[i] = fmt.Sprintf("%d-%d", i, i)
	}
	for name, q := range map[string]struct {
		send string
		want string // statuses
	}{
		"plain":               {hello + "\r\n", "200"},
		"two after another":   {hello + "\r\n" + hello + "\r\n", "200 200"},
		"HTTP/1.0":            {"GET /pxelinux.0 HTTP/1.0\r\n\r\n", "200"},
		"absolute":            {"GET http://elsewhere.example/pxelinux.0 HTTP/1.1\r\nHost: x\r\n\r\n", "200"},
		"absolute, secret":    {"GET http://elsewhere.example/../secret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"absolute, file":      {"GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"..":                  {"GET /../secret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"..%2f":               {"GET /..%2fsecret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"%2e%2e/":             {"GET /%2e%2e/secret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"..%5c":               {"GET /..%5csecret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"..%255c":             {"GET /..%255csecret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"images/../..":        {"GET /images/../../secret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"NUL":                 {"GET /pxelinux.0%00.txt HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"overlong UTF-8":      {"GET /%c0%ae%c0%ae/secret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"bad escape":          {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		"a folder":            {"GET /images/ HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"nothing":             {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"no slash":            {"GET pxelinux.0 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		"a long name":         {"GET /" + strings.Repeat("a", 8000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"a huge header":       {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<16) + "\r\n\r\n", "431"},
		"no Host":             {"GET /pxelinux.0 HTTP/1.1\r\n\r\n", "400"},
		"two Hosts":           {hello + "Host: y\r\n\r\n", "400"},
		"HTTP/9":              {"GET /pxelinux.0 HTTP/9.9\r\nHost: x\r\n\r\n", "505"},
		"no request":          {"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400"},
		"POST":                {"POST /pxelinux.0 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "405"},
		"PUT, body missing":   {"PUT /pxelinux.0 HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n", "405"},
		"TRACE":               {"TRACE /pxelinux.0 HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		"OPTIONS *":           {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		"CONNECT":             {"CONNECT 10.77.0.10:22 HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		"one range":           {hello + "Range: bytes=0-6\r\n\r\n", "206"},
		"the last bytes":      {hello + "Range: bytes=-7\r\n\r\n", "206"},
		"range behind":        {hello + "Range: bytes=99999999-\r\n\r\n", "416"},
		"range of negatives":  {hello + "Range: bytes=-99999999999999999999999\r\n\r\n", "416"},
		"range bomb":          {hello + "Range: bytes=" + strings.Join(many[:2000], ",") + "\r\n\r\n", "416"},
		"overlapping ranges":  {hello + "Range: bytes=" + strings.Repeat("0-,", 2000) + "0-\r\n\r\n", "416"},
		"ranges in two lines": {hello + "Range: bytes=0-1\r\nRange: bytes=0-1\r\n\r\n", "416"},
		// Smuggling: whoever believes the other length sees a second request.
		"CL and TE":       {hello + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hello + "\r\n", "400"},
		"TE and CL":       {hello + "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG" + hello + "\r\n", "400"},
		"two lengths":     {hello + "Content-Length: 0\r\nContent-Length: 60\r\n\r\n" + hello + "\r\n", "400"},
		"length +0":       {hello + "Content-Length: +0\r\n\r\n" + hello + "\r\n", "400"},
		"negative length": {hello + "Content-Length: -1\r\n\r\n", "400"},
		"odd TE":          {hello + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hello + "\r\n", "501"},
		"space in name":   {hello + "Content-Length : 60\r\n\r\n" + hello + "\r\n", "400"},
		"GET with a body": {hello + "Content-Length: 50\r\n\r\n" + hello + "\r\n", "400"},
		"chunk bomb":      {hello + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + hello + "\r\n", "400"},
	} {
		l.inNS(c, func() error {
			got, err := raw(q.send)
			var have []string
			for _, r := range got {
				have = append(have, fmt.Sprint(r.StatusCode))
				b, rerr := io.ReadAll(r.Body)
				if r.StatusCode >= 300 && len(b) > 200 || bytes.Contains(b, []byte("SECRET")) || bytes.Contains(b, []byte("root:")) {
					t.Errorf("%s: answered %q, %v", name, b, rerr)
				}
			}
			if s := strings.Join(have, " "); s != q.want {
				t.Errorf("%s: answers %q, want %q (%v)", name, s, q.want, err)
			}
			return nil
		})
	}
	if strings.Contains(srv.output(), "panic") {
		t.Errorf("panic:\n%s", srv.output())
	}
}

// HEAD tells what GET would, types are what firmware wants, and a range is a
// part of the very same bytes.
func TestHTTPAnswers(t *testing.T) {
	l := newLab(t)
	l.write("tftp/efi/BOOTX64.EFI", strings.Repeat("PE", 5000))
	l.write("tftp/boot.ipxe", "#!ipxe\n")
	c := l.host(macA, "10.77.0.10/24")
	l.ready(serveSpec{DHCP: DHCPOff})
	for name, typ := range map[string]string{
		"efi/BOOTX64.EFI": "application/efi", "boot.ipxe": "text/plain; charset=utf-8", "pxelinux.0": "application/octet-stream",
		"images/vmlinuz": "application/octet-stream", "pxelinux.cfg/default": "text/plain; charset=utf-8",
	} {
		l.inNS(c, func() error {
			var got []*http.Response
			for _, q := range []string{"HEAD /%s HTTP/1.1\r\nHost: x\r\n\r\n", "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", "GET /%s HTTP/1.1\r\nHost: x\r\nRange: bytes=3-\r\n\r\n"} {
				all, err := raw(fmt.Sprintf(q, name))
				if err != nil || len(all) != 1 {
					return fmt.Errorf("%s: %d answers, %w", name, len(all), err)
				}
				got = append(got, all[0])
			}
			whole, err := io.ReadAll(got[1].Body)
			if err != nil {
				return err
			}
			part, err := io.ReadAll(got[2].Body)
			if err != nil {
				return err
			}
			for _, r := range got {
				if r.Header.Get("Content-Type") != typ {
					t.Errorf("%s: type %q, want %q", name, r.Header.Get("Content-Type"), typ)
				}
			}
			if h := got[0]; h.StatusCode != 200 || h.ContentLength != int64(len(whole)) || len(whole) == 0 || h.Header.Get("Accept-Ranges") != "bytes" {
				t.Errorf("%s: HEAD: %d, %d bytes, GET has %d", name, h.StatusCode, h.ContentLength, len(whole))
			}
			if p := got[2]; p.StatusCode != 206 || !bytes.Equal(part, whole[3:]) ||
				p.Header.Get("Content-Range") != fmt.Sprintf("bytes 3-%d/%d", len(whole)-1, len(whole)) {
				t.Errorf("%s: range: %d, %q, %d bytes", name, p.StatusCode, p.Header.Get("Content-Range"), len(part))
			}
			return nil
		})
	}
}

// Machines that send a byte of header now and then, from as many addresses as
// it takes to have all places: they are cut, and a machine in earnest is
// served.
func TestSlowloris(t *testing.T) {
	needs(t, "curl")
	l := newLab(t)
	c := l.host(macA, "10.77.0.10/24")
	l.ready(serveSpec{DHCP: DHCPOff})
	const addrs = maxHTTPConns/maxHTTPPerAddr + 2
	for i := range addrs {
		l.ip(c, fmt.Sprintf("addr add 10.77.0.%d/24 dev eth0", 100+i))
	}
	other := l.host(macB, "10.77.0.11/24")
	held := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		l.inNS(c, func() error { return slowloris(addrs, held) })
	})
	<-held
	out, err := runFor(2*time.Minute, "ip", "netns", "exec", other, "curl", "-sSf", "-m", "90", "-o", "/dev/null", "-w", "%{size_download}", "http://"+httpAddr+"/pxelinux.0")
	if err != nil || out != "42000" {
		t.Errorf("the other machine got %s: %v", out, err)
	}
	wg.Wait()
}

// slowloris opens all connections, then feeds each a byte now and then until
// the server has cut every one.
func slowloris(addrs int, held chan<- struct{}) error {
	defer func() { // also when nothing could be opened
		if held != nil {
			close(held)
		}
	}()
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for i := range addrs {
		for range maxHTTPPerAddr + 1 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 77, 0, byte(100+i))}, Timeout: 10 * time.Second}
			c, err := d.Dial("tcp4", httpAddr)
			if errors.Is(err, unix.ECONNRESET) {
				continue // the one over the cap
			}
			if err != nil {
				return err
			}
			open = append(open, c)
			_, _ = io.WriteString(c, "GET /pxelinux.0 HTTP/1.1\r\nX: ") // that one too may be cut only now
		}
	}
	close(held)
	held = nil
	for end := time.Now().Add(time.Minute); len(open) > 0; time.Sleep(time.Second) {
		if time.Now().After(end) {
			return fmt.Errorf("%d of the connections that send a byte a second are still open after a minute", len(open))
		}
		var left []net.Conn
		for _, c := range open {
			_, err := c.Write([]byte("x"))
			if err == nil {
				err = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			}
			if err == nil {
				_, err = c.Read(make([]byte, 1024)) // "408" or the like counts as cut
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				left = append(left, c)
				continue
			}
			_ = c.Close()
		}
		open = left
	}
	return nil
}

// A client that is slow but takes something is served to the end, long after
// the time that a part of the file has; one that takes nothing is cut.
func TestSlowReaders(t *testing.T) {
	s := offWire(t, DHCPOff, nil2local)
	whole := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB, more than any socket buffer
	path := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s.cfg.Files = Files{"big": OnDisk(path)}
	s.link.own.Store(&hostAddrs{ips: map[netip.Addr]bool{addr("127.0.0.1"): true}})
	const chunk = 15 * time.Second
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.serveHTTPWithin(t.Context(), ln, chunk) }()
	get := func() *net.TCPConn {
		k, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		c := k.(*net.TCPConn)
		if err := c.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	dead := get()
	slow := get()
	r, err := http.ReadResponse(bufio.NewReaderSize(slow, 1024), nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	var got bytes.Buffer
	for err == nil {
		_, err = io.CopyN(&got, r.Body, 256<<10)
		time.Sleep(300 * time.Millisecond)
	}
	if !errors.Is(err, io.EOF) || !bytes.Equal(got.Bytes(), whole) {
		t.Errorf("slow client: %d bytes of %d, %v", got.Len(), len(whole), err)
	}
	if took := time.Since(start); took < chunk {
		t.Errorf("the slow client was done after %v: it proves nothing", took)
	}
	n, err := io.Copy(io.Discard, dead)
	if err == nil && n >= int64(len(whole)) {
		t.Error("a client that took nothing was waited for")
	}
	_ = ln.Close()
	if err := <-done; err == nil {
		t.Error("served without a listener")
	}
}
