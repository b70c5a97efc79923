package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func piece() Header {
	return Header{Kind: PieceFrame, Stream: 1, Piece: 2, Lap: 3, Stored: 1 << 20, True: 1 << 20, Seq: 4, Hash: Hash{5}}
}

func TestHeaderRoundTrip(t *testing.T) {
	b := make([]byte, HeaderSize)
	piece().Put(b)
	if h, err := ParseHeader(b); err != nil || h != piece() {
		t.Fatalf("got %+v, %v", h, err)
	}
}

func TestImpossibleLengthsAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*Header){
		"impossible length of 4294967295": func(h *Header) { h.True, h.Stored = 1<<32-1, 1<<32-1 },
		"impossible length of 0":          func(h *Header) { h.True, h.Stored = 0, 0 },
		"impossible length of 2":          func(h *Header) { h.True, h.Stored, h.Flags = 1, 2, Zstd },
		"not compressed":                  func(h *Header) { h.Stored-- },
		"unknown flags":                   func(h *Header) { h.Flags = 2 },
		"unknown kind 9":                  func(h *Header) { h.Kind = 9 },
		"no sequence":                     func(h *Header) { h.Seq = 0 },
		"end of lap has a body":           func(h *Header) { h.Kind = LapEnd },
	} {
		h, b := piece(), make([]byte, HeaderSize)
		edit(&h)
		h.Put(b)
		if _, err := ParseHeader(b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := ParseHeader(make([]byte, HeaderSize)); err == nil {
		t.Error("zeros: no error")
	}
	if _, err := ParseHeader(nil); err == nil {
		t.Error("nothing: no error")
	}
}

func TestCheckAgainstStreams(t *testing.T) {
	streams := []Stream{{ID: 1, Kind: ImageStream, PieceSize: 1 << 20, Pieces: 4, Bytes: 3<<20 + 7}}
	last := piece()
	last.Piece, last.True, last.Stored = 3, 7, 7
	for _, h := range []Header{piece(), last} {
		if err := h.Check(streams); err != nil {
			t.Error(err)
		}
	}
	for _, edit := range []func(*Header){
		func(h *Header) { h.Stream = 0 },
		func(h *Header) { h.Piece = 4 },
		func(h *Header) { h.Piece = 3 },
		func(h *Header) { h.True-- },
	} {
		h := piece()
		edit(&h)
		if err := h.Check(streams); err == nil {
			t.Errorf("%+v: no error", h)
		}
	}
}

// A short stream has small pieces, or a chain of many nodes waits for its
// first one; a long one has no more pieces than it must.
func TestPieceSizes(t *testing.T) {
	for size, want := range map[int64]uint32{0: 256 << 10, 1: 256 << 10, 4 << 30: 256 << 10, 4<<30 + 1: 512 << 10, 9 << 30: 1 << 20,
		16 << 40: 1 << 20, 16<<40 + 1: 2 << 20} {
		if got := NewStream(0, ImageStream, size).PieceSize; got != want {
			t.Errorf("%d bytes: pieces of %d, want %d", size, got, want)
		}
	}
}

func TestNewStreamNeverHasTooManyPieces(t *testing.T) {
	for _, size := range []int64{0, 1, PieceSize, PieceSize + 1, 1 << 44, 1<<44 + 1, 1 << 50} {
		s := NewStream(0, ImageStream, size)
		var sum int64
		if s.Pieces > 0 {
			sum = int64(s.Pieces-1)*int64(s.PieceSize) + int64(s.Len(s.Pieces-1))
		}
		if s.Pieces > MaxPieces || s.PieceSize > MaxPieceSize || sum != size {
			t.Errorf("%d bytes: %+v, sum %d", size, s, sum)
		}
	}
}

func TestHelloAndWelcome(t *testing.T) {
	h := Hello{Transfer: TransferID{1}, Epoch: 2, From: 3, To: 4}
	if got, err := ParseHello(h.Bytes()); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	for _, w := range []Welcome{{LastSeq: 1 << 40}, {Refused: true}} {
		if got, err := ParseWelcome(w.Bytes()); err != nil || got != w {
			t.Errorf("%+v, %v", got, err)
		}
	}
	other := h.Bytes()
	other[5]++
	if _, err := ParseHello(other); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("other version: %v", err)
	}
}

func TestFind(t *testing.T) {
	if s, ok := ParseFind(FindRequest("room 3")); !ok || s != "room 3" {
		t.Errorf("%q %v", s, ok)
	}
	if s, p, ok := ParseHere(FindReply("room 3", 30765)); !ok || s != "room 3" || p != 30765 {
		t.Errorf("%q %d %v", s, p, ok)
	}
}

// Golden nodes understand each other; more than fits into a frame is no
// question, nor is one by nobody.
func TestRivals(t *testing.T) {
	var macs []string
	for i := range MaxAsked {
		macs = append(macs, fmt.Sprintf("52:54:00:00:00:%02x", i))
	}
	q := RivalRequest{Golden: "0123456789abcdef", MACs: macs}
	if got, ok := ParseRivalRequest(q.Marshal()); !ok || !reflect.DeepEqual(got, q) {
		t.Errorf("%+v %v", got, ok)
	}
	r := RivalReply{Golden: "0123456789abcdef", Session: strings.Repeat("s", 64), Any: true, MACs: macs}
	if got, ok := ParseRivalReply(r.Marshal()); !ok || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v %v", got, ok)
	}
	for _, b := range [][]byte{
		RivalRequest{}.Marshal(), RivalReply{Golden: "x"}.Marshal(), []byte(whoWord), []byte(amWord + "{"), r.Marshal()[1:],
		RivalRequest{Golden: "x", MACs: append(macs, macs...)}.Marshal(), RivalRequest{Golden: strings.Repeat("x", 2000)}.Marshal(),
	} {
		_, ask := ParseRivalRequest(b)
		_, reply := ParseRivalReply(b)
		if ask || reply {
			t.Errorf("%.40q got through", b)
		}
	}
}

func FuzzRivals(f *testing.F) {
	f.Add(RivalRequest{Golden: "x", MACs: []string{"52:54:00:00:00:01"}}.Marshal())
	f.Add(RivalReply{Golden: "x", Session: "s", Any: true}.Marshal())
	f.Add([]byte(whoWord + `{"golden":"x","macs":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, ok := ParseRivalRequest(b); ok && (q.Golden == "" || len(q.MACs) > MaxAsked) {
			t.Fatalf("%+v got through", q)
		}
		if r, ok := ParseRivalReply(b); ok && (r.Golden == "" || r.Session == "" || len(r.Session) > MaxName) {
			t.Fatalf("%+v got through", r)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	b := make([]byte, HeaderSize)
	piece().Put(b)
	f.Add(b)
	f.Add([]byte("KAF1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		if h.Stored > MaxStored || h.True > MaxPieceSize {
			t.Fatalf("%+v got through", h)
		}
		out := make([]byte, HeaderSize)
		h.Put(out)
		if !bytes.Equal(out, b[:HeaderSize]) {
			t.Fatalf("%x became %x", b[:HeaderSize], out)
		}
	})
}

func FuzzHellos(f *testing.F) {
	f.Add(Hello{Epoch: 1}.Bytes())
	f.Add(Welcome{LastSeq: 1}.Bytes())
	f.Add(FindRequest("s"))
	f.Add(FindReply("s", 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		ParseHello(b)
		ParseWelcome(b)
		if s, ok := ParseFind(b); ok && (s == "" || strings.ContainsAny(s, "\n\x00")) {
			t.Fatalf("session %q", s)
		}
		if _, p, ok := ParseHere(b); ok && (p < 1 || p > 65535) {
			t.Fatalf("port %d", p)
		}
		var o Order
		var r Report
		json.Unmarshal(b, &o)
		json.Unmarshal(b, &r)
	})
}
