package doctor

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Opcodes of TFTP (RFC 1350, RFC 2347).
const (
	tftpRRQ   = 1
	tftpData  = 3
	tftpAck   = 4
	tftpError = 5
	tftpOACK  = 6
)

const (
	tftpBlock = 1468    // Ethernet's 1500 less IP, UDP and TFTP headers
	readWhole = 1 << 20 // of larger files only the size and the beginning are tried
)

// tftp reads a file as firmware does and compares it with the one on disk.
// silent: there was no answer at all.
func (e *exam) tftp(ctx context.Context, c *client, name string) (f Finding, silent bool) {
	f = Finding{"service.tftp", Error, "udp port 69", "", e.whySilent(69)}
	disk, size, err := firstBytes(filepath.Join(e.TFTPRoot, filepath.FromSlash(name)), readWhole)
	if err != nil {
		return Finding{"service.tftp", Error, "udp port 69", fmt.Sprintf("%s is not tried: %v", name, err), makeAgain}, false
	}
	t := &tftpRead{c: c, name: name, want: len(disk)}
	if int64(len(disk)) < size {
		t.want = 4 * tftpBlock
	}
	got, err := t.run(ctx)
	switch {
	case err != nil:
		f.What = err.Error()
	case got == refused:
		f.What = "refuses to be asked for " + name
	case got == silence:
		f.What = fmt.Sprintf("says nothing when asked for %s (%d bytes came)", name, len(t.got))
	case t.message != "":
		f.What = fmt.Sprintf("doesn't give %s: %s", name, t.message)
		f.Do = "start golden-serve with this --tftp-root; it lists the folder once, when it starts"
	case t.size >= 0 && t.size != size:
		f.What = fmt.Sprintf("%s has %d bytes there, and %d on disk", name, t.size, size)
		f.Do = "start golden-serve anew, with this --tftp-root"
	case !bytes.HasPrefix(disk, t.got) || len(t.got) < min(t.want, len(disk)):
		f.What = fmt.Sprintf("gives other bytes of %s than are on disk", name)
		f.Do = "start golden-serve anew, with this --tftp-root"
	default:
		return Finding{f.ID, OK, f.Subject, fmt.Sprintf("gives %s, %d bytes", name, size), ""}, false
	}
	return f, err == nil && got == silence && t.server == 0
}

func firstBytes(file string, n int64) ([]byte, int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	b, err := io.ReadAll(io.LimitReader(f, n))
	return b, i.Size(), err
}

// tftpRead is one read request.
type tftpRead struct {
	c    *client
	name string
	want int // bytes, then it is broken off

	size    int64  // option tsize; -1: not told
	got     []byte // so far
	message string // of an error packet
	block   int    // size of one
	server  uint16 // its port of this transfer
	over    bool
}

// run reads block by block: each acknowledgement is a question of which the
// next block is the answer.
func (t *tftpRead) run(ctx context.Context) (outcome, error) {
	from := t.c.next()
	t.size, t.block = -1, 512 // RFC 1350: without options
	ask := binary.BigEndian.AppendUint16(nil, tftpRRQ)
	ask = append(ask, fmt.Sprintf("%s\x00octet\x00blksize\x00%d\x00tsize\x000\x00", t.name, tftpBlock)...)
	port := uint16(69)
	for next := uint16(0); !t.over && len(t.got) < t.want; next++ {
		got, err := t.c.exchange(ctx, from, port, ask, func(f frame) bool { return t.take(f, next) })
		if got != answered || err != nil {
			return got, err
		}
		if t.message != "" {
			return answered, nil
		}
		port = t.server
		if next == 0 && len(t.got) > 0 { // no options: this was block 1 already
			next = 1
		}
		ask = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, tftpAck), next)
	}
	return answered, t.end(from, port, ask)
}

// end acknowledges the last block, or breaks the transfer off: RFC 2347 has
// error 8 for that.
func (t *tftpRead) end(from netip.AddrPort, port uint16, ack []byte) error {
	if !t.over {
		ack = append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, tftpError), 8), "enough\x00"...)
	}
	return t.c.send(from, port, ack)
}

// take reads an answer. want is the block's number; 0: options, or block 1.
func (t *tftpRead) take(f frame, want uint16) bool {
	b := f.payload
	if len(b) < 4 || t.server != 0 && f.from.Port() != t.server {
		return false
	}
	n := binary.BigEndian.Uint16(b[2:])
	switch op := binary.BigEndian.Uint16(b); {
	case op == tftpError:
		t.message = fmt.Sprintf("error %d, %s", n, strings.TrimRight(string(b[4:min(len(b), 200)]), "\x00"))
	case op == tftpOACK && want == 0:
		t.options(b[2:])
	case op == tftpData && (n == want || want == 0 && n == 1):
		t.got = append(t.got, b[4:]...)
		t.over = len(b)-4 < t.block
	default:
		return false
	}
	t.server = f.from.Port()
	return true
}

// options reads what the server agreed to.
func (t *tftpRead) options(b []byte) {
	w := strings.Split(string(b), "\x00")
	for i := 0; i+1 < len(w); i += 2 {
		n, err := strconv.ParseInt(w[i+1], 10, 64)
		switch {
		case err != nil:
		case strings.EqualFold(w[i], "tsize"):
			t.size = n
		case strings.EqualFold(w[i], "blksize") && n >= 8 && n <= 65464: // RFC 2348
			t.block = int(n)
		}
	}
}
