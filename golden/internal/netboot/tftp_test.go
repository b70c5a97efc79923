package netboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// tftpReader reads one file the way boot loaders do, one block after another,
// and asks again when nothing comes.
type tftpReader struct {
	c    *net.UDPConn
	req  []byte
	peer *net.UDPAddr // nil until the server has answered
	last []byte       // sent last
	size int          // of a block
	got  bytes.Buffer
	next uint16
	buf  []byte
}

// newReader makes a client in the namespace that the caller is in.
func newReader(from net.IP, name string, opts ...string) (*tftpReader, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: from})
	if err != nil {
		return nil, err
	}
	return &tftpReader{c: c, req: rrq(name, opts...), size: 512, next: 1, buf: make([]byte, 65536)}, nil
}

func (r *tftpReader) close() { _ = r.c.Close() }

func (r *tftpReader) send(b []byte) error {
	to := r.peer
	if to == nil {
		to = &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: tftpPort}
	}
	r.last = b
	_, err := r.c.WriteToUDP(b, to)
	return err
}

// answer waits for one packet, and asks again every now and then until end.
// nil is silence until then.
func (r *tftpReader) answer(again time.Duration, end time.Time) ([]byte, error) {
	for now := time.Now(); now.Before(end); now = time.Now() {
		if err := r.c.SetReadDeadline(now.Add(min(again, end.Sub(now)))); err != nil {
			return nil, err
		}
		n, from, err := r.c.ReadFromUDP(r.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if !time.Now().Before(end) {
				break
			}
			if err := r.send(r.last); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.peer == nil {
			r.peer = from
		}
		if n >= 4 && from.Port == r.peer.Port {
			return r.buf[:n], nil
		}
	}
	return nil, nil
}

// begin asks for the file and waits for the first answer, which it leaves
// unacknowledged.
func (r *tftpReader) begin(limit time.Duration) ([]byte, error) {
	if err := r.send(r.req); err != nil {
		return nil, err
	}
	b, err := r.answer(time.Second, time.Now().Add(limit))
	if err == nil && b == nil {
		err = fmt.Errorf("no answer within %v", limit)
	}
	return b, err
}

// patience is longer than the server waits for a client, some 12 s. On a
// loaded machine that may be over before a reader has its turn.
const patience = 20 * time.Second

// anew asks once more from the beginning, as a ROM does.
func (r *tftpReader) anew() error {
	r.got.Reset()
	r.next, r.size, r.peer = 1, 512, nil
	return r.send(r.req)
}

// rest reads on after the first answer until the file is whole. When the server
// has given it up it begins anew.
func (r *tftpReader) rest(b []byte, limit time.Duration) (err error) {
	for end := time.Now().Add(limit); ; {
		ack := r.next - 1
		switch {
		case b == nil && time.Now().Before(end):
			if err := r.anew(); err != nil {
				return err
			}
			if b, err = r.answer(time.Second, soon(end)); err != nil {
				return err
			}
			continue
		case b == nil:
			return fmt.Errorf("after %d bytes silence until the time was up", r.got.Len())
		case b[1] == 5:
			return fmt.Errorf("after %d bytes error %q", r.got.Len(), b[4:])
		case b[1] == 6:
			if v := option(b, "blksize"); v > 0 {
				r.size = v
			}
			ack = 0
		case b[1] == 3 && binary.BigEndian.Uint16(b[2:]) == r.next:
			r.got.Write(b[4:])
			ack = r.next
			r.next++
		}
		if err := r.send([]byte{0, 4, byte(ack >> 8), byte(ack)}); err != nil {
			return err
		}
		if b[1] == 3 && len(b) < r.size+4 {
			return nil
		}
		if b, err = r.answer(time.Second, soon(end)); err != nil {
			return err
		}
	}
}

// soon is when the patience is over, end at the latest.
func soon(end time.Time) time.Time {
	if t := time.Now().Add(patience); t.Before(end) {
		return t
	}
	return end
}

// trickle takes a block a second, so that the transfer neither ends nor is
// given up, until stop is closed.
func (r *tftpReader) trickle(b []byte, stop <-chan struct{}) error {
	for {
		if b != nil && (b[1] == 6 || b[1] == 3 && binary.BigEndian.Uint16(b[2:]) == r.next) {
			select {
			case <-stop:
				return nil
			case <-time.After(time.Second):
			}
			ack := r.next
			if b[1] == 6 {
				ack = 0
			} else {
				r.next++
			}
			if err := r.send([]byte{0, 4, byte(ack >> 8), byte(ack)}); err != nil {
				return err
			}
		}
		select {
		case <-stop:
			return nil
		default:
		}
		var err error
		if b, err = r.answer(time.Second, time.Now().Add(2*time.Second)); err != nil {
			return err
		}
	}
}

// abort tells the server that the file is not wanted, as UEFI does after it
// has heard the size.
func (r *tftpReader) abort() error {
	return r.send(append([]byte{0, 5, 0, 8}, "no\x00"...))
}

// option is the value of a number in an OACK; 0 if it isn't there.
func option(oack []byte, name string) (v int) {
	words := strings.Split(string(oack[2:]), "\x00")
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == name {
			_, _ = fmt.Sscan(words[i+1], &v)
		}
	}
	return v
}

// noise is a file in which no two blocks are alike.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// What a bad client may send, and what it hears: an error or nothing, or else
// a file of the list.
func TestHostileTFTP(t *testing.T) {
	l := newLab(t)
	l.write("secret", "SECRET")
	c := l.host(macA, "10.77.0.10/24")
	srv := l.ready(serveSpec{DHCP: DHCPOff})
	const silence, data, fault, oack = 0, 3, 5, 6
	raw := func(s string) []byte { return []byte(s) }
	for name, q := range map[string]struct {
		send []byte
		want int // opcode
	}{
		"empty": {raw(""), silence}, "one byte": {raw("\x00"), silence}, "opcode only": {raw("\x00\x01"), silence},
		"no NUL": {raw("\x00\x01pxelinux.0"), silence}, "no name": {raw("\x00\x01\x00octet\x00"), fault},
		"no mode": {raw("\x00\x01pxelinux.0\x00"), data}, "no last NUL": {raw("\x00\x01pxelinux.0\x00octet"), data},
		"unknown": {rrq("nothing"), fault}, "a folder": {rrq("images"), fault}, "everything": {rrq("*"), fault},
		"..": {rrq("../secret"), fault}, "/..": {rrq("/../secret"), fault}, `..\`: {rrq(`..\secret`), fault},
		`\..\`: {rrq(`\..\secret`), fault}, "images/../..": {rrq("images/../../secret"), fault}, "....//": {rrq("....//secret"), fault},
		"absolute": {rrq("/etc/passwd"), fault}, "absolute \\": {rrq(`\etc\passwd`), fault}, "C:": {rrq(`C:\secret`), fault},
		"UNC": {rrq(`\\10.77.0.1\secret`), fault}, "%2e": {rrq("%2e%2e/secret"), fault}, "overlong UTF-8": {rrq("\xc0\xae\xc0\xae/secret"), fault},
		"NUL in name": {rrq("pxelinux.0\x00../secret"), data}, "NUL before": {rrq("\x00../secret"), fault}, "line end": {rrq("pxelinux.0\n"), fault},
		"inside .": {rrq("images/../pxelinux.0"), fault}, "255 letters": {rrq(strings.Repeat("a", 255)), fault}, "496 letters": {rrq(strings.Repeat("a", 496)), fault},
		"512 letters": {rrq(strings.Repeat("a", 512)), fault}, "500 slashes": {rrq(strings.Repeat("/", 480) + "pxelinux.0"), fault},
		"\\ and //": {rrq(`\\images//.\vmlinuz`), data}, "./": {rrq("./pxelinux.0"), data}, "OCTET": {raw("\x00\x01pxelinux.0\x00OCTET\x00"), data},
		"netascii": {raw("\x00\x01pxelinux.0\x00netascii\x00"), data}, "unknown mode": {raw("\x00\x01pxelinux.0\x00mail\x00"), data},
		"write": {raw("\x00\x02pxelinux.0\x00octet\x00"), fault}, "write anew": {raw("\x00\x02../new\x00octet\x00blksize\x001024\x00"), fault},
		"data": {raw("\x00\x03\x00\x01x"), silence}, "ack": {raw("\x00\x04\x00\x01"), silence}, "error": {raw("\x00\x05\x00\x01x\x00"), silence},
		"oack": {raw("\x00\x06x\x00y\x00"), silence}, "opcode 9": {raw("\x00\x09\x01\x01"), silence}, "opcode 0x0101": {raw("\x01\x01pxelinux.0\x00octet\x00"), silence},
		"much": {bytes.Repeat([]byte{0, 1, 'a'}, 20000), fault},
		// An option with a value that means nothing is as if it weren't there (RFC 2347).
		"blksize 0": {rrq("pxelinux.0", "blksize", "0"), data}, "blksize 7": {rrq("pxelinux.0", "blksize", "7"), data},
		"blksize -1": {rrq("pxelinux.0", "blksize", "-1"), data}, "blksize 65465": {rrq("pxelinux.0", "blksize", "65465"), data},
		"blksize 2^64": {rrq("pxelinux.0", "blksize", "18446744073709551616"), data}, "blksize word": {rrq("pxelinux.0", "blksize", "x"), data},
		"blksize alone": {rrq("pxelinux.0", "blksize"), data}, "timeout": {rrq("pxelinux.0", "timeout", "1"), data}, "timeout 999": {rrq("pxelinux.0", "timeout", "999"), data},
		"windowsize": {rrq("pxelinux.0", "windowsize", "64"), data}, "multicast": {rrq("pxelinux.0", "multicast", ""), data},
		"BLKSIZE": {rrq("pxelinux.0", "BLKSIZE", "1024"), data}, "unknown option": {rrq("pxelinux.0", "x", strings.Repeat("y", 400)), data},
		"blksize 65464": {rrq("pxelinux.0", "blksize", "65464"), oack}, "tsize": {rrq("pxelinux.0", "tsize", "0"), oack},
		"long tsize": {rrq("pxelinux.0", "tsize", strings.Repeat("9", 450)), oack}, "tsize word": {rrq("pxelinux.0", "tsize", "x"), oack},
		"twice": {rrq("pxelinux.0", "blksize", "600", "blksize", "700"), oack},
	} {
		l.inNS(c, func() error {
			r, err := newReader(nil, "")
			if err != nil {
				return err
			}
			defer r.close()
			r.req = q.send
			again, limit := time.Second, 20*time.Second
			if q.want == silence {
				again, limit = time.Minute, 100*time.Millisecond
			}
			if err := r.send(q.send); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			b, err := r.answer(again, time.Now().Add(limit))
			op := silence
			if len(b) > 1 {
				op = int(b[1])
			}
			if err != nil && q.want != silence || op != q.want || bytes.Contains(b, []byte("SECRET")) || bytes.Contains(b, []byte("root:")) {
				t.Errorf("%s: answer %q, %v, want opcode %d", name, b[:min(len(b), 60)], err, q.want)
			}
			if op == data && !bytes.HasPrefix(b[4:], []byte("loader")) && !bytes.HasPrefix(b[4:], []byte("kernel")) {
				t.Errorf("%s: %q is no file of the list", name, b[:min(len(b), 60)])
			}
			if op == oack && (option(b, "blksize") > 1468 || option(b, "tsize") != 0 && option(b, "tsize") != 42000) {
				t.Errorf("%s: agreed to %q", name, b)
			}
			if op == data || op == oack {
				return r.abort()
			}
			return nil
		})
	}
	if strings.Contains(srv.output(), "panic") {
		t.Errorf("panic:\n%s", srv.output())
	}
}

// Acknowledgements nobody asked for, and packets of strangers to the port of
// a transfer, change nothing.
func TestTFTPFloods(t *testing.T) {
	l := newLab(t)
	want := noise(300 << 10)
	l.write("tftp/images/all.rdz", string(want))
	c := l.host(macA, "10.77.0.10/24")
	srv := l.ready(serveSpec{DHCP: DHCPOff})
	before := memoryOf(t, srv)
	l.inNS(c, func() error {
		r, err := newReader(nil, "images/all.rdz", "blksize", "1408")
		if err != nil {
			return err
		}
		defer r.close()
		stranger, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer func() { _ = stranger.Close() }()
		first, err := r.begin(20 * time.Second)
		if err != nil {
			return err
		}
		main := &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: tftpPort}
		for i := range 5000 {
			ack := []byte{0, 4, byte(i >> 8), byte(i)}
			for _, to := range []*net.UDPAddr{main, r.peer} {
				if _, err := stranger.WriteToUDP(ack, to); err != nil {
					return err
				}
			}
			if i%100 == 0 { // and an error that isn't the client's
				if _, err := stranger.WriteToUDP([]byte{0, 5, 0, 0, 'x', 0}, r.peer); err != nil {
					return err
				}
			}
		}
		if err := r.rest(bytes.Clone(first), 2*time.Minute); err != nil {
			return err
		}
		if !bytes.Equal(r.got.Bytes(), want) {
			return fmt.Errorf("%d bytes, not those of the file", r.got.Len())
		}
		return nil
	})
	if after := memoryOf(t, srv); after > before+64<<20 {
		t.Errorf("memory grew from %d to %d MiB", before>>20, after>>20)
	}
}

// Who comes over the caps hears nothing, not even an error that would make
// it give up, and is served when it asks again.
func TestTFTPCaps(t *testing.T) {
	l := newLab(t)
	c := l.host(macA, "10.77.0.10/24")
	other := l.host(macB, "10.77.0.11/24")
	const addrs = maxTransfers / maxPerAddress
	for i := range addrs {
		l.ip(c, fmt.Sprintf("addr add 10.77.0.%d/24 dev eth0", 20+i))
	}
	l.ready(serveSpec{DHCP: DHCPOff})
	var held []*tftpReader
	var holding errgroup.Group
	enough := make(chan struct{})
	release := sync.OnceFunc(func() { close(enough) })
	defer func() {
		release()
		_ = holding.Wait() // looked at below
		for _, r := range held {
			r.close()
		}
	}()
	hold := func(from net.IP) error {
		r, err := newReader(from, "images/vmlinuz", "blksize", "1024")
		if err != nil {
			return err
		}
		held = append(held, r)
		b, err := r.begin(20 * time.Second)
		if err != nil {
			return err
		}
		holding.Go(func() error { return r.trickle(b, enough) })
		return nil
	}
	quiet := func(from net.IP) (*tftpReader, error) {
		r, err := newReader(from, "images/vmlinuz")
		if err != nil {
			return nil, err
		}
		b, err := r.begin(300 * time.Millisecond)
		if err == nil {
			err = fmt.Errorf("over the caps, and answered %q", b[:min(len(b), 20)])
			return r, err
		}
		return r, nil
	}
	var fifth, stranger *tftpReader
	l.inNS(c, func() (err error) {
		for range maxPerAddress {
			if err := hold(net.IPv4(10, 77, 0, 20)); err != nil {
				return err
			}
		}
		fifth, err = quiet(net.IPv4(10, 77, 0, 20))
		return err
	})
	defer fifth.close()
	start := time.Now()
	l.inNS(c, func() error { // the others, up to the cap of all
		for i := 1; i < addrs; i++ {
			for range maxPerAddress {
				if err := hold(net.IPv4(10, 77, 0, byte(20+i))); err != nil {
					return err
				}
			}
		}
		return nil
	})
	l.inNS(other, func() (err error) {
		stranger, err = quiet(nil)
		return err
	})
	defer stranger.close()
	t.Logf("%d transfers were opened in %v", len(held), time.Since(start).Round(time.Millisecond))
	release()
	if err := holding.Wait(); err != nil {
		t.Errorf("a held transfer: %v", err)
	}
	for _, r := range held {
		if err := r.abort(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*tftpReader{fifth, stranger} {
		b, err := r.begin(30 * time.Second)
		if err == nil {
			err = r.rest(bytes.Clone(b), time.Minute)
		}
		if err != nil || r.got.Len() != 1<<20 {
			t.Errorf("asked again: %d bytes, %v", r.got.Len(), err)
		}
	}
}

// memoryOf is the resident memory of a server.
func memoryOf(t *testing.T, p *process) (bytes int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(rest, &bytes)
		}
	}
	if bytes == 0 {
		t.Fatalf("no VmRSS in %s", b)
	}
	return bytes << 10
}
