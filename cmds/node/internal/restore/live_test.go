package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// selfDescribing is a version of a file that tells whether it is whole: a
// number, its length in between, a hash at the end.
func selfDescribing(number uint64, r *rand.Rand) []byte {
	b := make([]byte, 64+8*r.IntN(4000))
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], number)
	}
	h := sha256.Sum256(b)
	return append(b, h[:]...)
}

func whole(b []byte) bool {
	if len(b) < 64+32 {
		return false
	}
	h := sha256.Sum256(b[:len(b)-32])
	return bytes.Equal(h[:], b[len(b)-32:])
}

// wholeLog: a log is lines that each tell the hash of all before.
func wholeLog(b []byte) bool {
	for len(b) > 0 {
		i := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
		if string(b[i:]) != fmt.Sprintf("%x\n", sha256.Sum256(b[:i])) {
			return false
		}
		b = b[:i]
	}
	return true
}

// churn changes the files of a tree all the time, until stop is closed: it
// rewrites some in place, replaces some by others, appends to logs, removes
// and makes. It counts the versions that it wrote.
func churn(dir string, names []string, stop <-chan struct{}, wrote *atomic.Int64) error {
	r := rand.New(rand.NewPCG(7, 7))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		case <-time.After(time.Duration(r.IntN(2000)) * time.Microsecond):
		}
		p := filepath.Join(dir, names[r.IntN(len(names))])
		if err := changeOne(p, uint64(n), r); err != nil {
			return err
		}
		wrote.Add(1)
	}
}

// awaitChurn waits until churn has written so many versions more.
func awaitChurn(t *testing.T, wrote *atomic.Int64, more int64) {
	t.Helper()
	for until, end := wrote.Load()+more, time.Now().Add(5*time.Minute); wrote.Load() < until; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d versions written, want %d, after 5 minutes", wrote.Load(), until)
		}
	}
}

func changeOne(p string, n uint64, r *rand.Rand) error {
	switch base := filepath.Base(p); {
	case strings.HasPrefix(base, "log"):
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "%x\n", sha256.Sum256(b))
		return errors.Join(err, f.Close())
	case strings.HasPrefix(base, "swap"):
		return errors.Join(os.WriteFile(p+".new", selfDescribing(n, r), 0o640), os.Rename(p+".new", p))
	case strings.HasPrefix(base, "come"):
		if err := os.Remove(p); err == nil || !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return os.WriteFile(p, selfDescribing(n, r), 0o600)
	}
	// In place, in one write and a truncation; what is between is a mix.
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	b := selfDescribing(n, r)
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Truncate(int64(len(b))), f.Close())
}

// liveTree makes a tree for churn, and says which files that may change.
func liveTree(t *testing.T, from string) []string {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	var names []string
	for d := range 4 {
		if err := os.MkdirAll(fmt.Sprintf("%s/d%d", from, d), 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range 60 {
			kind := []string{"file", "swap", "log", "come", "still", "still"}[f%6]
			name := fmt.Sprintf("d%d/%s%d", d, kind, f)
			data := selfDescribing(1<<40, r)
			if kind == "log" {
				data = nil
				for range 20 {
					data = fmt.Appendf(data, "%x\n", sha256.Sum256(data))
				}
			}
			if err := os.WriteFile(filepath.Join(from, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
			if kind != "still" {
				names = append(names, name)
			}
		}
	}
	if err := os.Link(from+"/d0/file0", from+"/d1/other-name"); err != nil {
		t.Fatal(err)
	}
	return names
}

// writeGiven writes a version of a file that churn leaves alone: a change that
// comes when it is wanted, however slow the host is. Of any three pieces in a
// row one lies in it.
func writeGiven(t *testing.T, from string, version byte) {
	t.Helper()
	b := bytes.Repeat([]byte{version}, 3*wire.PieceSize)
	h := sha256.Sum256(b)
	if err := os.WriteFile(from+"/d0/given", append(b, h[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSettleLive clones a tree that is written to all the time to two nodes,
// one of which misses a third of the pieces in the first lap. Each file of
// both is one version that the writer had written, and both are the same.
func TestSettleLive(t *testing.T) {
	tmp := t.TempDir()
	from := filepath.Join(tmp, "from")
	names := liveTree(t, from)
	writeGiven(t, from, 1)
	stop, ended := make(chan struct{}), make(chan error, 1)
	var wrote atomic.Int64
	go func() {
		ended <- churn(from, names, stop, &wrote)
	}()
	src, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	src.Spool = tmp
	var nodes []*Tree
	for _, to := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(tmp, to), 0o755); err != nil {
			t.Fatal(err)
		}
		dst, err := NewTree(filepath.Join(tmp, to), src.Streams(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		nodes = append(nodes, dst)
	}
	void := twoLaps(t, src, func() {
		awaitChurn(t, &wrote, 50)
		writeGiven(t, from, 2)
	}, nodes[0], nodes[1])
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, dst := range nodes {
		if err := dst.Finish(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	torn := src.Torn()
	t.Logf("%d versions written, %d void pieces, %d streams, %d files gone, torn %q", wrote.Load(), void, len(src.Streams()), len(src.Removed()), torn)
	if len(src.Streams()) < 4 {
		t.Errorf("the test tests nothing: %d versions, streams %v, torn %q", wrote.Load(), src.Streams(), torn)
	}
	judgeVersions(t, torn, filepath.Join(tmp, "a"), filepath.Join(tmp, "b"))
}

// judgeVersions wants every file of the nodes to be one version that churn
// wrote, and the nodes to be the same.
func judgeVersions(t *testing.T, torn []string, nodes ...string) {
	t.Helper()
	count := 0
	for d := range 4 {
		list, err := os.ReadDir(fmt.Sprintf("%s/d%d", nodes[0], d))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			name := fmt.Sprintf("d%d/%s", d, x.Name())
			a, err := os.ReadFile(filepath.Join(nodes[0], name))
			for _, n := range nodes[1:] {
				b, err2 := os.ReadFile(filepath.Join(n, name))
				if err != nil || err2 != nil || !bytes.Equal(a, b) {
					t.Errorf("%s: the nodes differ (%v, %v)", name, err, err2)
				}
			}
			if slices.ContainsFunc(torn, func(s string) bool { return strings.HasPrefix(s, "/"+name+": ") }) || strings.HasSuffix(name, ".new") {
				continue
			}
			count++
			if ok := strings.HasPrefix(x.Name(), "log") && wholeLog(a) || whole(a); !ok {
				t.Errorf("%s is no version that was written (%d bytes)", name, len(a))
			}
		}
	}
	if count < 80 { // those that nobody writes to; of the others any may be torn on a host that is busy
		t.Errorf("%d files judged", count)
	}
}

// twoLaps does what a head does with two nodes, of which the second takes
// only two thirds of the pieces in the first lap. Golden goes on meanwhile.
func twoLaps(t *testing.T, src *stream.Tree, between func(), a, b *Tree) (voids int) {
	t.Helper()
	type key struct {
		id uint16
		n  uint32
	}
	first := map[key]wire.Hash{}
	var missing []key
	for _, s := range src.Streams() {
		for n := range s.Pieces {
			buf := make([]byte, s.Len(n))
			if err := src.ReadPiece(s.ID, n, buf); err != nil {
				t.Fatal(err)
			}
			k := key{s.ID, n}
			first[k] = blake3.Sum256(buf)
			err := a.Put(s.ID, n, buf)
			if s.ID == stream.ManifestID || n%3 > 0 {
				err = errors.Join(err, b.Put(s.ID, n, buf))
			} else {
				missing = append(missing, k)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	between()
	patchTo(t, src, nil, a, b)
	var void []wire.Range
	for _, k := range missing {
		buf := make([]byte, src.Streams()[k.id].Len(k.n))
		if err := src.ReadPiece(k.id, k.n, buf); err != nil {
			t.Fatal(err)
		}
		if blake3.Sum256(buf) != first[k] {
			void = append(void, wire.Range{Stream: k.id, From: k.n, To: k.n + 1})
		} else if err := b.Put(k.id, k.n, buf); err != nil {
			t.Fatal(err)
		}
	}
	if len(void) == 0 {
		t.Error("no piece read differently: the test doesn't test void pieces")
	}
	patchTo(t, src, void, a, b)
	return len(void)
}
