package faults

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// BadMemory is a relay in whose memory a bit turns after it has checked a
// piece, before it sends it on. The way to the next node is made slow for a
// moment, so that there are such pieces. #20
func BadMemory() Fault {
	return Fault{Name: "bit turned in a relay's memory", Promise: 4 * time.Second, Nodes: 4, To: 0.4, Bytes: 120 << 20, Inject: func(ctx context.Context, r *Run) error {
		nodes := r.Take(1, 2, Finishes)
		if nodes == nil {
			return errNobody
		}
		relay, next := nodes[0], nodes[1]
		relay.Want = Either // it sends the same again and again: it may be cut out for that
		if err := r.shapeNode(next, r.Mbit/4); err != nil {
			return err
		}
		at := time.Now()
		for try := range 4 {
			r.Sleep(ctx, 700*time.Millisecond)
			if relay.prog.Ended() {
				break
			}
			seq, err := turnBit(relay.prog)
			if err != nil {
				return errors.Join(err, r.shapeNode(next, r.Mbit))
			}
			r.Did("%s: a bit of frame %d has turned", relay, seq)
			for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if r.anybodySaid("wrong frame", at) {
					r.Did("noticed, at try %d", try+1)
					return r.shapeNode(next, r.Mbit)
				}
			}
		}
		r.Break("nobody has noticed a turned bit")
		return r.shapeNode(next, r.Mbit)
	}}
}

func (r *Run) anybodySaid(text string, after time.Time) bool {
	for _, p := range r.programs() {
		if _, ok := p.Out.Said(text, after); ok {
			return true
		}
	}
	return false
}

// behind is how many frames before the newest one is taken: the newest are
// still being checked, or on their way to the relay's own disk, and what turns
// there nobody can notice. Those that wait for the next node are the last 8 MiB,
// 32 of these.
const behind = 12

// turnBit finds frames in a process's memory by their headers, and turns a bit
// in one of the youngest, wherever it lies.
func turnBit(p *Program) (seq uint64, err error) {
	p.Signal(syscall.SIGSTOP)
	defer p.Signal(syscall.SIGCONT)
	time.Sleep(20 * time.Millisecond) // it stops with its next breath
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.Pid()), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	places, newest, err := frames(mem, p.Pid())
	if err != nil {
		return 0, err
	}
	for seq = newest - min(newest, behind); seq > 0; seq-- {
		if len(places[seq]) > 0 {
			break
		}
	}
	if seq == 0 {
		return 0, fmt.Errorf("no frames in the memory of process %d", p.Pid())
	}
	for _, at := range places[seq] {
		b := make([]byte, 1)
		at += wire.HeaderSize + 1000
		if _, err := mem.ReadAt(b, at); err != nil {
			return 0, err
		}
		b[0] ^= 4
		if _, err := mem.WriteAt(b, at); err != nil {
			return 0, err
		}
	}
	return seq, nil
}

// frames lists where headers of pieces lie, by their seq.
func frames(mem *os.File, pid int) (places map[uint64][]int64, newest uint64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, 0, err
	}
	places = map[uint64][]int64{}
	in := bufio.NewScanner(bytes.NewReader(maps))
	for in.Scan() {
		var from, to, offset int64
		var mode, dev, inode string
		if n, _ := fmt.Sscanf(in.Text(), "%x-%x %s %x %s %s", &from, &to, &mode, &offset, &dev, &inode); n < 6 || !strings.HasPrefix(mode, "rw") || inode != "0" {
			continue
		}
		b := make([]byte, to-from)
		n, err := mem.ReadAt(b, from)
		if err != nil && n == 0 {
			continue // reserved, not there
		}
		for at := 0; ; {
			i := bytes.Index(b[at:n], []byte("KAF1"))
			if i < 0 {
				break
			}
			at += i
			if h, err := wire.ParseHeader(b[at:n]); err == nil && h.Kind == wire.PieceFrame && h.Stored > 2000 {
				places[h.Seq] = append(places[h.Seq], from+int64(at))
				newest = max(newest, h.Seq)
			}
			at += 4
		}
	}
	return places, newest, in.Err()
}
