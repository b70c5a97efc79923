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
}

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
	*g = gauge{now, info.Busy_time, info.Rwnd_limited}
	if was.at.IsZero() {
		return wire.Hop{}, false
	}
	d := float64(now.Sub(was.at).Microseconds())
	return wire.Hop{
		Rate:     int64(info.Delivery_rate),
		Busy:     float64(g.busy-was.busy) / d,
		Receiver: float64(g.receiver-was.receiver) / d,
	}, true
}
