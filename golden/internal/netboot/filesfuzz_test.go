package netboot

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// ofTheList says whether bytes are a part of something that offWire serves.
func ofTheList(s *Server, b []byte) bool {
	if bytes.Contains([]byte("loader"), b) || bytes.Contains([]byte("kernel"), b) {
		return true
	}
	got, err := s.lookup("pxelinux.cfg/default", netip.Addr{})
	if err != nil {
		return false
	}
	text, err := io.ReadAll(got.content)
	return err == nil && bytes.Contains(text, b)
}

// FuzzTFTP sends any packet to a running server. The seeds are what real
// clients sent: tftp-hpa 5.2, atftp 0.8, curl 7.88, busybox 1.35, QEMU's iPXE
// 1.20, PXELINUX 6.04.
func FuzzTFTP(f *testing.F) {
	for _, s := range []string{
		"\x00\x01pxelinux.0\x00octet\x00", // tftp-hpa, and curl without options
		"\x00\x01pxelinux.0\x00netascii\x00",
		"\x00\x01pxelinux.0\x00octet\x00tsize\x000\x00timeout\x003\x00blksize\x001428\x00windowsize\x0016\x00",    // atftp
		"\x00\x01pxelinux.0\x00octet\x00tsize\x000\x00blksize\x00512\x00timeout\x006\x00",                         // curl
		"\x00\x01pxelinux.0\x00octet\x00blksize\x001428\x00tsize\x000\x00",                                        // busybox
		"\x00\x01pxelinux.0\x00octet\x00blksize\x001432\x00tsize\x000\x00",                                        // iPXE
		"\x00\x01pxelinux.cfg/00007777-3412-bc4a-8000-000000000001\x00octet\x00tsize\x000\x00blksize\x001408\x00", // PXELINUX
		"\x00\x01images/vmlinuz\x00octet\x00tsize\x000\x00blksize\x001408\x00",
		"\x00\x01pxelinux.0\x00OCTET\x00BLKSIZE\x001024\x00",
		"\x00\x01" + `\images\\vmlinuz` + "\x00octet\x00tsize\x00" + strings.Repeat("9", 400) + "\x00",
		"\x00\x01../../etc/passwd\x00octet\x00", "\x00\x02pxelinux.0\x00octet\x00",
		"\x00\x04\x00\x01", "\x00\x05\x00\x08x\x00", "\x00\x06blksize\x001\x00", "\x00\x01", "",
	} {
		f.Add([]byte(s))
	}
	s := offWire(f, DHCPOff, nil2local)
	self := netip.MustParseAddr("127.0.0.1")
	other := netip.MustParseAddr("127.0.0.2") // what one address may have at once is not the other's
	s.link.own.Store(&hostAddrs{ips: map[netip.Addr]bool{self: true, other: true}})
	listen := func(a netip.Addr) *net.UDPConn {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
		if err != nil {
			f.Fatal(err)
		}
		return c
	}
	srv := listen(self)
	to := srv.LocalAddr().(*net.UDPAddr)
	ctx := f.Context()
	go func() { _ = s.serveTFTP(ctx, srv) }() // ends with the test
	ping := &tftpReader{c: listen(other), buf: make([]byte, 2048)}
	f.Cleanup(ping.close)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &tftpReader{c: listen(self), peer: to, buf: make([]byte, 65536)}
		defer r.close()
		if len(b) > 60000 {
			return // no datagram
		}
		if err := r.send(b); err != nil {
			t.Fatal(err)
		}
		patience := 2 * time.Millisecond
		if len(b) > 4 && b[0] == 0 && (b[1] == 1 || b[1] == 2) {
			patience = 20 * time.Millisecond
		}
		if err := r.c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, from, err := r.c.ReadFromUDP(r.buf)
		if err == nil && n >= 4 {
			got := r.buf[:n]
			switch {
			case got[0] == 0 && got[1] == 3:
				// netascii has "\r\n" for "\n"
				if text := bytes.ReplaceAll(got[4:], []byte("\r\n"), []byte("\n")); !ofTheList(s, text) && !ofTheList(s, got[4:]) {
					t.Errorf("%q was answered %q", b, got)
				}
			case got[0] == 0 && (got[1] == 5 || got[1] == 6):
			default:
				t.Errorf("%q was answered %q", b, got)
			}
			if got[1] != 5 {
				r.peer = from
				if err := r.abort(); err != nil {
					t.Fatal(err)
				}
			}
		} else if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		// It still serves.
		var got []byte
		for range 60 {
			ping.peer = to
			if err := ping.send(rrq("nothing")); err != nil {
				t.Fatal(err)
			}
			ping.peer = nil // each answer has a port of its own
			if got, err = ping.answer(time.Minute, time.Now().Add(time.Second)); err != nil || got != nil {
				break
			}
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || len(got) < 2 || got[1] != 5 {
			t.Fatalf("after %q the server is silent: %q, %v", b, got, err)
		}
	})
}

// FuzzHTTP sends any request. The first seeds are what curl 7.88 and busybox
// wget sent.
func FuzzHTTP(f *testing.F) {
	for _, s := range []string{
		"GET /pxelinux.0 HTTP/1.1\r\nHost: 127.0.0.1:8069\r\nRange: bytes=3-9\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
		"HEAD /pxelinux.0 HTTP/1.1\r\nHost: 127.0.0.1:8069\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
		"GET /images/vmlinuz HTTP/1.1\r\nHost: 127.0.0.1:8069\r\nUser-Agent: Wget\r\nConnection: close\r\n\r\n",
		"GET /pxelinux.cfg/default HTTP/1.0\r\n\r\n",
		"GET http://elsewhere/..%2f..%2fetc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET //images/%5c/vmlinuz?x#y HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0,2-2,-1\r\n\r\n",
		"GET /pxelinux.0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n",
	} {
		f.Add([]byte(s))
	}
	s := offWire(f, DHCPOff, nil2local)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return // net/http's affair
		}
		r.RemoteAddr = "10.77.0.60:4000"
		rec := httptest.NewRecorder()
		s.getHTTP(&movingWriter{ResponseWriter: rec, control: http.NewResponseController(rec), chunk: chunkTime}, r)
		body := rec.Body.Bytes()
		switch {
		case rec.Code == http.StatusOK || rec.Code == http.StatusPartialContent:
			if !ofTheList(s, body) {
				t.Errorf("%q was answered %d %q", b, rec.Code, body)
			}
		case rec.Code < 400 || len(body) > 200:
			t.Errorf("%q was answered %d %q", b, rec.Code, body)
		}
	})
}
