package download

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// httpd is busybox's, a real server that knows Range.
func httpd(t *testing.T, dir, address string) {
	t.Helper()
	needs(t, "busybox")
	start(t, address, "busybox", "httpd", "-f", "-p", address, "-h", dir)
}

func TestHTTP(t *testing.T) {
	img := squash(t, 3<<20)
	httpd(t, tree(t, "rescue.sqfs", img), "127.0.0.1:80")
	taken(t, config(t, "http"), img, Squashfs, "http://127.0.0.1/cs4/install/stage2/rescue.sqfs")
}

// The manual's name counts where ours isn't there, and an ext2 image will do.
func TestHTTPManualsName(t *testing.T) {
	img := ext2(t)
	httpd(t, tree(t, "rescue.clp", img), "127.0.0.1:8080")
	c := config(t, "http")
	c.Server = "localhost:8080"
	taken(t, c, img, Ext, "http://localhost:8080/cs4/install/stage2/rescue.clp")
}

func TestHTTPMissing(t *testing.T) {
	httpd(t, tree(t, "", ""), "127.0.0.1:80")
	err := refused(t, config(t, "http"), "neither rescue.sqfs nor rescue.clp in http://127.0.0.1/cs4/install/stage2", "404")
	if errors.Is(err, ErrUnreachable) {
		t.Error("trying again won't help")
	}
}

// Only the image that was built with this stage 1 is taken, unless the boot
// line says otherwise.
func TestHash(t *testing.T) {
	img := squash(t, 1<<20)
	dir := tree(t, "rescue.sqfs", img)
	httpd(t, dir, "127.0.0.1:80")
	c := config(t, "http")
	sum := taken(t, c, img, Squashfs, "http://127.0.0.1/cs4/install/stage2/rescue.sqfs").SHA256

	c = config(t, "http")
	c.Sums = Sums{"rescue.sqfs": sum}
	taken(t, c, img, Squashfs, "http://127.0.0.1/cs4/install/stage2/rescue.sqfs")

	c = config(t, "http")
	c.Sums = Sums{"rescue.sqfs": strings.Repeat("0", 64)}
	if err := refused(t, c, "rescue.sqfs", sum, "ka.unsigned"); !errors.Is(err, ErrForeign) || errors.Is(err, ErrUnreachable) {
		t.Error("wrong sort of error")
	}
	c = config(t, "http")
	c.Sums, c.Unsigned = Sums{"rescue.sqfs": strings.Repeat("0", 64)}, true
	var said []string
	c.Say = func(line string) { said = append(said, line) }
	taken(t, c, img, Squashfs, "http://127.0.0.1/cs4/install/stage2/rescue.sqfs")
	if !strings.Contains(strings.Join(said, "\n"), "nobody vouches") {
		t.Errorf("said only %q", said)
	}

	// A hash file beside it shows what was damaged.
	put(t, dir, "rescue.sqfs.sha256", fmt.Appendf(nil, "%s  rescue.sqfs\n", sum))
	taken(t, config(t, "http"), img, Squashfs, "http://127.0.0.1/cs4/install/stage2/rescue.sqfs")
	damaged := read(t, img)
	damaged[len(damaged)/2] ^= 1
	put(t, dir, "rescue.sqfs", damaged)
	refused(t, config(t, "http"), "is damaged", "rescue.sqfs.sha256")
}

// A relay before the real server breaks off each connection after a while. It
// must go on where it stopped.
func TestHTTPGoesOn(t *testing.T) {
	img := squash(t, 3<<20)
	httpd(t, tree(t, "rescue.sqfs", img), "127.0.0.1:8080")
	var asked, ranged atomic.Int32
	relay(t, "127.0.0.1:80", "127.0.0.1:8080", 1<<20, func(request string) {
		asked.Add(1)
		if strings.Contains(request, "Range: bytes=") {
			ranged.Add(1)
		}
	})
	taken(t, config(t, "http"), img, Squashfs, "http://127.0.0.1/cs4/install/stage2/rescue.sqfs")
	if asked.Load() < 4 || ranged.Load() != asked.Load()-2 { // all but the first, and the one for the hash file
		t.Errorf("%d requests, %d of them for the rest", asked.Load(), ranged.Load())
	}
}

// relay passes connections on, at most most bytes of each answer.
func relay(t *testing.T, at, to string, most int64, hear func(request string)) {
	t.Helper()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	pass := func(in net.Conn) {
		defer in.Close()
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		head := make([]byte, 64<<10)
		n, err := in.Read(head)
		if err != nil {
			return
		}
		hear(string(head[:n]))
		out.Write(head[:n])
		io.CopyN(in, out, most)
	}
	go func() { // ends with the listener
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go pass(in)
		}
	}()
}

// bad is a server that is wrong in a way that no real one can be asked for.
func bad(t *testing.T, h http.HandlerFunc) Config {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c := config(t, "http")
	c.Server = strings.TrimPrefix(s.URL, "http://")
	c.Room = 64 << 20
	return c
}

func TestHTTPBadAnswers(t *testing.T) {
	needs(t)
	page := "<!DOCTYPE html><html><body>Please log in</body></html>"
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
	}
	for _, tt := range []struct {
		name    string
		answer  http.HandlerFunc
		words   []string
		passing bool
	}{
		{"a page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, page)
		}, []string{"rescue.sqfs", "text/html", "not with an image"}, false},
		{"a page that says it is none", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			io.WriteString(w, page)
		}, []string{"rescue.sqfs", "is text/html", "<!DOCTYPE"}, false},
		{"nothing", func(http.ResponseWriter, *http.Request) {}, []string{"is empty"}, false},
		{"forbidden", status(403), []string{"403 Forbidden"}, false},
		{"overloaded", status(503), []string{"503 Service Unavailable", "can't be reached"}, true},
		{"too large", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1099511627776")
			w.WriteHeader(200)
		}, []string{"too large", "1099511627776", "room for 67108864"}, false},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			for b := make([]byte, 1<<20); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, []string{"too large", "67108864"}, false},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.7/rescue.sqfs", http.StatusFound)
		}, []string{"redirect refused", "192.0.2.7", "another server than 127.0.0.1"}, false},
		{"to TLS", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
		}, []string{"redirect refused", "https://127.0.0.1"}, false},
		{"round and round", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}, []string{"redirect refused", "more than 5"}, false},
		{"a squashfs cut short, with no word of its length", func(w http.ResponseWriter, _ *http.Request) {
			head := make([]byte, 4096)
			copy(head, "hsqs")
			head[squashMajor], head[squashBytes+2] = 4, 9
			w.(http.Flusher).Flush()
			w.Write(head)
		}, []string{"half a file", "4096", "589824"}, false},
		{"gzip that nobody asked for", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
		}, []string{"Content-Encoding gzip"}, false},
		{"the first rescue.clp", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "#!/bin/sh\n#V2.0 Format\n")
		}, []string{"cloop"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := refused(t, bad(t, tt.answer), tt.words...)
			if errors.Is(err, ErrUnreachable) != tt.passing {
				t.Errorf("try again: %v, want %v", !tt.passing, tt.passing)
			}
		})
	}
}

// A server that always ends in the middle gets three attempts, and the file is
// begun anew when it knows no Range.
func TestHTTPHalf(t *testing.T) {
	needs(t)
	var asked atomic.Int32
	c := bad(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Length", "8192")
		w.Write(make([]byte, 4096))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	err := refused(t, c, "half a file", "4096 of 8192 bytes", "3 times")
	if errors.Is(err, ErrUnreachable) {
		t.Error("a server that is there counts as none")
	}
	if n := asked.Load(); n != 4 { // the first brings something new
		t.Errorf("%d requests", n)
	}
}

// What goes on must be of the same file.
func TestHTTPOtherFile(t *testing.T) {
	needs(t)
	first := true
	c := bad(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"a"`)
		if first {
			first = false
			w.Header().Set("Content-Length", "8192")
			w.Write(make([]byte, 4096))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		if r.Header.Get("If-Range") != `"a"` {
			t.Errorf("If-Range %q", r.Header.Get("If-Range"))
		}
		w.Header().Set("Content-Range", "bytes 4096-9999/10000")
		w.WriteHeader(http.StatusPartialContent)
	})
	refused(t, c, "goes on at byte 4096 of 10000", "4096 of 8192")
}

// Redirects within the server are followed.
func TestHTTPSameServer(t *testing.T) {
	img := squash(t, 1<<20)
	data := read(t, img)
	c := bad(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/pool/") {
			http.Redirect(w, r, "/pool"+r.URL.Path, http.StatusFound)
			return
		}
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
	taken(t, c, img, Squashfs, "http://"+c.Server+"/cs4/install/stage2/rescue.sqfs")
}

// Whoever isn't there, or hangs, is named, and may be tried again.
func TestUnreachable(t *testing.T) {
	needs(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody speaks
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for _, method := range []string{"http", "ftp"} {
		for _, at := range []string{silent.Addr().String(), gone.Addr().String(), "no.such.host.invalid"} {
			c := config(t, method)
			c.Server, c.Stall = at, 500*time.Millisecond
			if err := refused(t, c, method+"://"+at+"/cs4/install/stage2/rescue.sqfs"); !errors.Is(err, ErrUnreachable) {
				t.Errorf("%s: not worth another try", err)
			}
		}
	}
}

// A person who gives up is obeyed at once.
func TestCancel(t *testing.T) {
	needs(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := bad(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "8192")
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	})
	c.Stall = 5 * time.Minute
	begun := time.Now()
	if _, err := Get(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(begun); d > time.Minute {
		t.Errorf("after %s", d)
	}
}

func TestNoServer(t *testing.T) {
	c := config(t, "http")
	c.Server = ""
	if _, err := Get(t.Context(), c); err == nil || !strings.Contains(err.Error(), "server:HOST") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(c.Path); err == nil {
		t.Error("something came all the same")
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 100-199/200")
	f.Add("bytes 0-0/*")
	f.Fuzz(func(t *testing.T, s string) {
		at, size, ok := contentRange(s)
		if ok && (at < 0 || size < -1 || size >= 0 && at >= size) {
			t.Errorf("%q gives %d of %d", s, at, size)
		}
	})
}
