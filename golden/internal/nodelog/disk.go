package nodelog

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// What may wait for the disk.
const (
	diskQueue = 16 << 10 // calls of Add
	diskBytes = 32 << 20
)

// disk does what there is to do with the files of a run, one thing after the
// other: who adds lines never waits for it. What it can't keep up with is lost,
// and counted.
type disk struct {
	dir   string
	log   *slog.Logger
	queue chan job
	bytes atomic.Int64 // in the queue
	lost  atomic.Int64 // lines
	done  chan struct{}
	task  chan struct{} // closed when run has ended
	once  sync.Once

	warned bool
}

// job is text for a file, or something else to do.
type job struct {
	name, text string
	lines      int
	do         func()
}

func newDisk(dir string, log *slog.Logger) *disk {
	return &disk{dir: dir, log: log, queue: make(chan job, diskQueue), done: make(chan struct{}), task: make(chan struct{})}
}

// put has lines written. It doesn't wait.
func (d *disk) put(name, text string, lines int) {
	if d.bytes.Add(int64(len(text))) <= diskBytes {
		select {
		case d.queue <- job{name: name, text: text, lines: lines}:
			return
		default:
		}
	}
	d.bytes.Add(-int64(len(text)))
	d.lost.Add(int64(lines))
}

var errBusy = errors.New("the disk with the logs doesn't answer")

// wait does something behind all that was put until now.
func (d *disk) wait(ctx context.Context, do func()) error {
	did := make(chan struct{})
	select {
	case d.queue <- job{do: func() { do(); close(did) }}:
	case <-ctx.Done():
		return errBusy
	}
	select {
	case <-did:
		return nil
	case <-d.task:
	case <-ctx.Done():
	}
	select {
	case <-did:
		return nil
	default:
		return errBusy
	}
}

func (d *disk) run() {
	defer close(d.task)
	for {
		select {
		case j := <-d.queue:
			d.carryOut(j)
		case <-d.done:
			for {
				select {
				case j := <-d.queue:
					d.carryOut(j)
				default:
					return
				}
			}
		}
	}
}

func (d *disk) carryOut(j job) {
	if j.do != nil {
		j.do()
		return
	}
	d.bytes.Add(-int64(len(j.text)))
	if err := appendTo(filepath.Join(d.dir, j.name), j.text); err != nil {
		d.warn(err)
	}
}

// warn says once that something isn't kept.
func (d *disk) warn(err error) {
	if !d.warned {
		d.warned = true
		d.log.Warn("what nodes say is not kept on this disk", "err", err)
	}
}

// close writes what waits, for as long as ctx lasts. A write that the disk
// never ends is left alone.
func (d *disk) close(ctx context.Context) {
	d.once.Do(func() { close(d.done) })
	select {
	case <-d.task:
	case <-ctx.Done():
		d.log.Warn("the disk with the logs doesn't answer: what nodes said last is not kept")
	}
	if n := d.lost.Load(); n > 0 {
		d.log.Warn("lines of nodes were lost: the disk with the logs was too slow", "lines", n)
	}
}
