package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"runtime"
	"testing"
)

// allocated is how many bytes f takes from the heap.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A frame that is let through fits the streams to the byte.
func FuzzCheck(f *testing.F) {
	streams := []Stream{NewStream(0, ManifestStream, 7), NewStream(1, ContentsStream, 3<<20+7), NewStream(2, ImageStream, 0),
		{ID: 9, Kind: ImageStream, PieceSize: MaxPieceSize, Pieces: 2, Bytes: MaxPieceSize + 1}}
	add := func(edit func(*Header)) {
		h, b := piece(), make([]byte, HeaderSize)
		edit(&h)
		h.Put(b)
		f.Add(b)
	}
	add(func(h *Header) {})
	add(func(h *Header) { h.Piece, h.True, h.Stored = 3, 7, 7 })
	add(func(h *Header) { h.Flags, h.Stored = Zstd, 1 })
	add(func(h *Header) { h.Kind, h.Stored = KeptFrame, 0 })
	add(func(h *Header) { h.Kind, h.Stored, h.Flags = VoidFrame, 0, 3 })
	add(func(h *Header) { *h = Header{Kind: LapEnd, Lap: 1, Seq: 1} })
	add(func(h *Header) { h.Piece = 1<<32 - 1 })
	add(func(h *Header) { h.Stream, h.Piece, h.True, h.Stored = 9, 0, MaxPieceSize, MaxPieceSize })
	add(func(h *Header) { h.Stored, h.True = 1<<32-1, 1<<32-1 })
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil || h.Check(streams) != nil || h.Kind == LapEnd {
			return
		}
		for _, s := range streams {
			if s.ID == h.Stream && h.Piece < s.Pieces && int64(h.Piece)*int64(s.PieceSize)+int64(h.True) <= s.Bytes && h.Stored <= h.True {
				return
			}
		}
		t.Fatalf("%+v got through", h)
	})
}

// What is read is what was written, and a welcome is never both.
func FuzzGreetings(f *testing.F) {
	f.Add(Hello{Transfer: TransferID{1}, Epoch: 1<<32 - 1, From: 0, To: 1}.Bytes())
	f.Add(Welcome{LastSeq: 1<<64 - 1}.Bytes())
	f.Add(Welcome{Refused: true}.Bytes())
	f.Add([]byte("KAH1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHello(b); err == nil {
			if got, err := ParseHello(h.Bytes()); err != nil || got != h {
				t.Fatalf("%+v became %+v, %v", h, got, err)
			}
		}
		if w, err := ParseWelcome(b); err == nil {
			if got, err := ParseWelcome(w.Bytes()); err != nil || got != w {
				t.Fatalf("%+v became %+v, %v", w, got, err)
			}
		}
	})
}

// A control message takes memory by its length only, whatever numbers are in
// it, and means the same when it is written again.
func FuzzControl(f *testing.F) {
	h := Hash{1}
	for _, v := range []any{
		Register{Version: 1, Session: "s", Token: "t", Stage: Stage2, DataPort: 30764, Queue: 48, Holds: true,
			Disks: []Device{{Name: "sda", Bytes: 1 << 40}}, Resume: &Resume{State: "receiving", Source: "x", Done: &Done{}}},
		Registered{Node: 1, Number: 2, Golden: "g"},
		Order{Seq: 1, Link: &LinkOrder{Transfer: TransferID{1}, Streams: []Stream{NewStream(0, ImageStream, 1<<50)},
			Prev: Peer{ID: 1, Addr: "10.0.0.1:30764", Epoch: 2}, Next: &Peer{ID: 2, Shed: true}, Open: true}},
		Order{Seq: 2, Plan: &Plan{}}, Order{Seq: 3, Release: &Release{Reboot: true, Torn: "x"}}, Order{Stop: "no"}, Order{Ping: true},
		Report{State: "done", Lines: []string{"a\nb"}, Fault: &Fault{Stage: "x", Cause: "y"}, Ready: &DiskResult{}, Done: &Done{HostKeys: []string{"k"}}},
		Report{Link: &LinkReport{Transfer: TransferID{1}, Settled: 1<<64 - 1, Held: 1<<64 - 1, Stored: -1, Lap: 1,
			Missing: []Range{{0, 0, 1<<32 - 1}, {1, 5, 4}}, Complete: true, Root: &h, Streams: -1}},
		Report{Link: &LinkReport{Have: []Have{{Stream: 1, From: 1<<32 - 1, Sums: make([]byte, 80)}}, HaveAll: true,
			Hop: &Hop{Rate: -1, Busy: 1e300}, Lost: &Trouble{Stall: true}, Bad: &Trouble{Peer: 1}, Broken: "x"}},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"link":{"missing":[{},{},{}],"have":[{"sums":"!"}],"root":"00"}}`))
	f.Add(bytes.Repeat([]byte(`[`), 5000))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, fresh := range []func() any{
			func() any { return new(Register) }, func() any { return new(Registered) },
			func() any { return new(Order) }, func() any { return new(Report) },
		} {
			v, again := fresh(), fresh()
			var err error
			// 1 KiB a byte: "{}," in a list of messages is a whole Range.
			if got := allocated(func() { err = json.Unmarshal(b, v) }); got > 1<<20+1024*uint64(len(b)) {
				t.Fatalf("%d bytes took %d of memory", len(b), got)
			}
			if err != nil {
				continue
			}
			out, err := json.Marshal(v)
			if err == nil {
				err = json.Unmarshal(out, again)
			}
			if err != nil {
				t.Fatalf("%T: %v", v, err)
			}
			first, _ := json.Marshal(v)
			second, _ := json.Marshal(again)
			if !reflect.DeepEqual(first, second) {
				t.Fatalf("%s became %s", first, second)
			}
		}
	})
}
