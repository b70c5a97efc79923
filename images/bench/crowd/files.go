package crowd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	blockSize = 1408        // what iPXE and PXELINUX ask for
	patience  = time.Second // before a client asks again
)

// tftpGet reads a file in lock-step, as boot loaders do (RFC 1350, 2347, 2348).
func tftpGet(ctx context.Context, o Order, from net.IP, w io.Writer) error {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: from})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	to, size, next := net.UDPAddrFromAddrPort(o.Server), 512, uint16(1)
	last := []byte("\x00\x01" + o.File + "\x00octet\x00blksize\x00" + strconv.Itoa(blockSize) + "\x00")
	answered := false
	buf := make([]byte, blockSize+4)
	for ctx.Err() == nil {
		if _, err := c.WriteToUDP(last, to); err != nil {
			return err
		}
		b, peer, err := receive(c, buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue // sends the last again
		case err != nil:
			return err
		case len(b) < 4 || answered && peer.Port != to.Port:
			continue
		case b[1] == 5:
			return fmt.Errorf("tftp error %q", b[4:])
		}
		to, answered = peer, true
		ack := next - 1
		if b[1] == 6 && strings.Contains(string(b), "blksize\x00"+strconv.Itoa(blockSize)+"\x00") {
			size, ack = blockSize, 0
		}
		fresh := b[1] == 3 && binary.BigEndian.Uint16(b[2:]) == next
		if fresh {
			if _, err := w.Write(b[4:]); err != nil {
				return err
			}
			ack = next
			next++
		}
		last = []byte{0, 4, byte(ack >> 8), byte(ack)}
		if fresh && len(b) < size+4 {
			_, err := c.WriteToUDP(last, to)
			return err
		}
	}
	return ctx.Err()
}

func receive(c *net.UDPConn, buf []byte) ([]byte, *net.UDPAddr, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	n, peer, err := c.ReadFromUDP(buf)
	return buf[:n], peer, err
}

// httpGet reads a file over a connection of its own.
func httpGet(ctx context.Context, o Order, from net.IP, w io.Writer) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	t := &http.Transport{DialContext: d.DialContext, DisableCompression: true}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.Server.String()+"/"+o.File, nil)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}
