package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// smallFiles makes 100,000 files of 0 to 8 KiB in 1000 directories, like the
// better part of a root file system.
func smallFiles(b *testing.B, dir string) (files int, size int64) {
	b.Helper()
	data := make([]byte, 8<<10)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	for d := range 1000 {
		sub := filepath.Join(dir, fmt.Sprintf("d%02d/e%02d", d/32, d%32))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range 100 {
			n := (d*131 + f*977) % (8 << 10)
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file-%03d.txt", f)), data[:n], 0o644); err != nil {
				b.Fatal(err)
			}
			files, size = files+1, size+int64(n)
		}
	}
	return files, size
}

// BenchmarkSmallFiles: scan, read, restore, the whole way and an update, beside
// tar to tar and ending in a sync as it. Run it with -benchtime 1x.
func BenchmarkSmallFiles(b *testing.B) {
	tmp := b.TempDir()
	from := filepath.Join(tmp, "from")
	files, size := smallFiles(b, from)
	var before float64
	report := func(b *testing.B) {
		b.ReportMetric((cpuSeconds(b)-before)/float64(b.N), "cpu-s")
		s := b.Elapsed().Seconds() / float64(b.N)
		b.ReportMetric(float64(files)/s, "files/s")
		b.ReportMetric(float64(size)/1e6/s, "MB/s")
	}
	target := func(b *testing.B) string {
		b.StopTimer()
		defer b.StartTimer()
		to := filepath.Join(tmp, "to")
		if err := errors.Join(os.RemoveAll(to), os.Mkdir(to, 0o755)); err != nil {
			b.Fatal(err)
		}
		unix.Sync()
		before = cpuSeconds(b)
		return to
	}
	scan := func(b *testing.B) *stream.Tree {
		src, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from})
		if err != nil {
			b.Fatal(err)
		}
		return src
	}
	b.Run("tar", func(b *testing.B) {
		for b.Loop() {
			tarToTar(b, from, target(b))
		}
		report(b)
	})
	b.Run("scan", func(b *testing.B) {
		before = cpuSeconds(b)
		for b.Loop() {
			src := scan(b)
			b.ReportMetric(float64(src.Streams()[0].Bytes)/float64(src.Entries()), "manifest-B/entry")
			src.Close()
		}
		report(b)
	})
	b.Run("read", func(b *testing.B) {
		src := scan(b)
		defer src.Close()
		before = cpuSeconds(b)
		for b.Loop() {
			pump(b, src, func(uint16, uint32, []byte) error { return nil })
		}
		report(b)
	})
	whole := func(b *testing.B, src *stream.Tree, to string) {
		dst, err := NewTree(to, src.Streams(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer dst.Close()
		pump(b, src, dst.Put)
		if err := dst.Finish(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("restore", func(b *testing.B) {
		src := scan(b)
		defer src.Close()
		for b.Loop() {
			whole(b, src, target(b))
		}
		report(b)
	})
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			to := target(b)
			src := scan(b)
			whole(b, src, to)
			src.Close()
		}
		report(b)
	})
	b.Run("update", func(b *testing.B) { // nothing has changed
		src := scan(b)
		defer src.Close()
		whole(b, src, target(b))
		for b.Loop() {
			before = cpuSeconds(b)
			dst, err := NewTree(filepath.Join(tmp, "to"), src.Streams(), Options{Update: true})
			if err != nil {
				b.Fatal(err)
			}
			if sum := carryLacking(b, src, dst); sum.sent > 0 {
				b.Fatalf("%+v", sum)
			}
			if err := errors.Join(dst.Finish(context.Background()), dst.Close()); err != nil {
				b.Fatal(err)
			}
		}
		report(b)
	})
	b.Run("tar-again", func(b *testing.B) {
		for b.Loop() {
			tarToTar(b, from, target(b))
		}
		report(b)
	})
}

// cpuSeconds is what this process and its children have used: on a busy
// machine it says more than the clock. With -benchtime 1x it is exact; else
// it counts the last iteration only.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var sum float64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	}
	return sum
}

// pump reads all pieces in order, four at a time.
func pump(b *testing.B, src *stream.Tree, put func(uint16, uint32, []byte) error) {
	b.Helper()
	for _, s := range src.Streams() {
		var g errgroup.Group
		var next atomic.Uint32
		for range 4 {
			g.Go(func() error {
				buf := make([]byte, s.PieceSize)
				for {
					n := next.Add(1) - 1
					if n >= s.Pieces {
						return nil
					}
					p := buf[:s.Len(n)]
					if err := errors.Join(src.ReadPiece(s.ID, n, p), put(s.ID, n, p)); err != nil {
						return err
					}
				}
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

// tarToTar keeps as much as tar can, as a clone would want it.
func tarToTar(b *testing.B, from, to string) {
	b.Helper()
	create := exec.Command("tar", "-C", from, "--format=posix", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", "-", ".")
	extract := exec.Command("tar", "-C", to, "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-")
	pipe, err := create.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	extract.Stdin = pipe
	if err := extract.Start(); err != nil {
		b.Fatal(err)
	}
	if err := create.Run(); err != nil {
		b.Fatal(err)
	}
	if err := extract.Wait(); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("sync", "-f", to).CombinedOutput(); err != nil {
		b.Fatalf("sync: %v %s", err, out)
	}
}
