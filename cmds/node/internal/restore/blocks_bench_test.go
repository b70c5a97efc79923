package restore

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// BenchmarkBlocks: a partition of 2 GiB, an ext4 with 200 MiB of files, to one
// node through a real chain: the blocks in use, those that aren't zeros, all,
// and dd for comparison, which has no network to go over. Run it with
// -benchtime 1x -count 3.
func BenchmarkBlocks(b *testing.B) {
	const size = 2 << 30
	for _, p := range []string{"mkfs.ext4", "partclone.extfs", "debugfs", "dd"} {
		if _, err := exec.LookPath(p); err != nil {
			b.Skipf("needs %s: %v", p, err)
		}
	}
	image, file := blankFile(b, size), blankFile(b, 1)
	if err := os.WriteFile(file, noise(4, 200<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, c := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"debugfs", "-w", "-R", "write " + file + " file", image}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	// What was deleted on an old disk is still there: neither holes nor zeros.
	m := usedBlocks(b, "partclone.extfs", image)
	fillGaps(b, image, m)
	all := stream.BlockMap{Bytes: size, How: wire.BlocksRaw, Extents: []stream.Extent{{Off: 0, Len: size}}}
	target := func(b *testing.B) string {
		b.StopTimer()
		defer b.StartTimer()
		to := blankFile(b, size)
		unix.Sync()
		return to
	}
	for name, m := range map[string]stream.BlockMap{"used": m, "raw": all} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				part := blockPart{"sda3", image, "ext4", m}
				overChain(b, part, target(b))
			}
			b.ReportMetric(float64(m.Data())/(1<<20), "MiB")
		})
	}
	b.Run("dd", func(b *testing.B) {
		for b.Loop() {
			if out, err := exec.Command("dd", "if="+image, "of="+target(b), "bs=1M", "conv=notrunc,fsync").CombinedOutput(); err != nil {
				b.Fatalf("dd: %v: %s", err, out)
			}
		}
		b.ReportMetric(size>>20, "MiB")
	})
}

func fillGaps(b *testing.B, image string, m stream.BlockMap) {
	b.Helper()
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	old := noise(8, 1<<20)
	err = m.Gaps(m.Bytes, func(off, n int64) error {
		for n > 0 {
			k, err := f.WriteAt(old[:min(n, int64(len(old)))], off)
			if err != nil {
				return err
			}
			off, n = off+int64(k), n-int64(k)
		}
		return nil
	})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		b.Fatal(err)
	}
}

// overChain sends a partition to one node, over loopback TCP.
func overChain(b *testing.B, part blockPart, to string) {
	b.Helper()
	src := openAll(b, nil, []blockPart{part})
	sink, err := NewWhole("", src.Streams(), planOf([]blockPart{part}), wire.DiskResult{Blocks: []string{to}}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	golden, err := trust.New()
	if err != nil {
		b.Fatal(err)
	}
	own, err := trust.New()
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	orders := make(chan wire.LinkOrder, 1000)
	head := &chain.Head{Transfer: wire.TransferID{9}, Source: src, Identity: golden, Log: slog.New(slog.DiscardHandler),
		Tell: func(_ uint32, o wire.LinkOrder) { orders <- o }}
	head.Start()
	link := &chain.Link{Transfer: head.Transfer, Self: 1, Streams: src.Streams(), Identity: own, Sink: sink,
		Log: slog.New(slog.DiscardHandler), Tell: func(r wire.LinkReport) { head.Report(1, r) }}
	if err := link.Start(); err != nil {
		b.Fatal(err)
	}
	head.Join(chain.Member{ID: 1, Addr: ln.Addr().String(), Pin: own.Pin})
	ended := make(chan error, 1)
	go func() { ended <- link.Run(ctx, ln) }()
	stop := make(chan struct{})
	go func() { // ends with the transfer
		for {
			select {
			case o := <-orders:
				link.Order(o)
			case <-stop:
				return
			}
		}
	}()
	_, err = head.Run(ctx)
	err = errors.Join(err, <-ended)
	close(stop)
	if err := errors.Join(err, sink.Finish(ctx)); err != nil {
		b.Fatal(err)
	}
}
