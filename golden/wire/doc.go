// Package wire is what golden and its nodes say to each other, and nothing of
// how it gets there: frames on the data connections, JSON messages on the
// control connection, the words of the kernel command line. It is pure: it
// opens nothing, waits for nothing and logs nothing.
//
//	golden                node 1                node 2
//	  │  Hello ─────────────▶│                     │     data, port 30764:
//	  │◀──────────── Welcome │  Hello ────────────▶│     one connection a hop,
//	  │  Frame ─────────────▶│  Frame ────────────▶│     golden to node 1 to node 2
//	  │  Frame ─────────────▶│  …                  │
//	  │                      │                     │
//	  │◀── Register, Report ─┤                     │     control, port 30765:
//	  ├── Order ────────────▶│                     │     HTTPS, JSON, one a line
//	  │◀── Register, Report ───────────────────────┤
//	  ├── Order ──────────────────────────────────▶│
//
// # A frame
//
// All numbers are big endian. A frame is a header of 64 bytes and Stored
// bytes of body:
//
//	 0  4  magic      "KAF1"
//	 4  1  kind       1 piece, 2 end of a lap, 3 kept, 4 void
//	 5  1  flags      bit 0: the body is one zstd frame (RFC 8878);
//	                  of void, how many streams must have been announced
//	 6  2  stream     which stream the piece belongs to
//	 8  4  piece      its number in the stream; at the end of a lap 0
//	12  4  lap        from 1
//	16  4  stored     length of the body as sent, at most MaxStored
//	20  4  true       length of the piece, at most MaxPieceSize
//	24  8  seq        position in the transfer, from 1, never used twice
//	32 32  hash       BLAKE3-256 of the true bytes; at the end of a lap 0
//
// Kept and void have no body (stored is 0). Kept: a node that held a piece
// with this hash before the transfer has golden's. Void: golden's file has
// changed since it sent the piece, and can't give it any more; all that was in
// it is in streams that were announced before this frame was sent.
//
// # Hello and Welcome
//
// The one nearer to golden dials and says Hello, 40 bytes; the other answers
// Welcome, 16 bytes, and from then on only listens.
//
//	Hello     0  4  magic "KAH1"        Welcome  0  4  magic "KAW1"
//	          4  2  version, 1                   4  2  version, 1
//	          6  2  0                            6  2  status: 0 welcome, else refused
//	          8 16  transfer                     8  8  seq of the last frame it has
//	         24  4  epoch of this hop
//	         28  4  from: node, 0 is golden
//	         32  4  to: node
//	         36  4  0
package wire
