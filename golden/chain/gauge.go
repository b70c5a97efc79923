package chain

import (
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// gauge reads how a hop does from the kernel's own account of the connection
// (include/uapi/linux/tcp.h, struct tcp_info).
type gauge struct {
	at             time.Time
	busy, receiver uint64 // µs so far
	acked          uint64 // bytes so far
}

// A hop that took less than gaugeBytes says nothing of its rate.
const gaugeBytes = 128 << 10

// read is how the hop did since it was read last.
func (g *gauge) read(c net.Conn) (wire.Hop, bool) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return wire.Hop{}, false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return wire.Hop{}, false
	}
	var info *unix.TCPInfo
	if cerr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); cerr != nil || err != nil {
		return wire.Hop{}, false
	}
	now := time.Now()
	was := *g
	*g = gauge{now, info.Busy_time, info.Rwnd_limited, info.Bytes_acked}
	if was.at.IsZero() || g.acked-was.acked < gaugeBytes {
		return wire.Hop{}, false
	}
	busy, receiver := float64(g.busy-was.busy), float64(g.receiver-was.receiver)
	d := float64(now.Sub(was.at).Microseconds())
	return wire.Hop{
		Rate:     int64(float64(g.acked-was.acked) * 1e6 / max(busy-receiver, 1000)),
		Busy:     busy / d,
		Receiver: receiver / d,
	}, true
}
