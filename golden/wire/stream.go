package wire

// PieceSize is the largest usual size of a piece, in bytes, MinPieceSize the
// smallest. A node passes a piece on when it has all of it, so each node of a
// chain adds the time of one piece: a source takes the smallest size of which
// it has no more than fewPieces, which keeps that below 1 % for a hundred
// nodes. A source so large that its pieces would outnumber MaxPieces takes
// larger ones.
const (
	PieceSize    = 1 << 20
	MinPieceSize = 256 << 10
	fewPieces    = 16 << 10
)

// MaxPieceSize and MaxPieces bound what a peer may announce: 64 MiB a piece,
// 2^24 pieces a stream (16 TiB at 1 MiB).
const (
	MaxPieceSize = 64 << 20
	MaxPieces    = 1 << 24
)

// StreamKind says what the pieces of a stream are parts of.
type StreamKind string

const (
	ManifestStream StreamKind = "manifest" // all entries of a tree
	ContentsStream StreamKind = "contents" // the data of its regular files, holes left out
	ImageStream    StreamKind = "image"    // one file, device, or squashfs

	PatchManifestStream StreamKind = "patch-manifest" // files of the tree that have changed since, as they are now
	PatchContentsStream StreamKind = "patch-contents" // their data

	BlockMapStream StreamKind = "block-map" // which blocks of a partition come; Name is the plan's Blocks.On
	BlocksStream   StreamKind = "blocks"    // their data, one extent after the other
)

// Stream announces one numbered list of pieces. Every piece is PieceSize
// bytes long but the last, which holds the rest of Bytes.
type Stream struct {
	ID        uint16     `json:"id"`
	Kind      StreamKind `json:"kind"`
	Name      string     `json:"name,omitempty"` // base name of an image's file; what blocks are of
	PieceSize uint32     `json:"piece_size"`
	Pieces    uint32     `json:"pieces"`
	Bytes     int64      `json:"bytes"`
}

// NewStream divides size bytes into pieces.
func NewStream(id uint16, kind StreamKind, size int64) Stream {
	s := Stream{ID: id, Kind: kind, PieceSize: MinPieceSize, Bytes: size}
	pieces := func() int64 { return (size + int64(s.PieceSize) - 1) / int64(s.PieceSize) }
	for pieces() > MaxPieces || pieces() > fewPieces && s.PieceSize < PieceSize {
		s.PieceSize *= 2
	}
	s.Pieces = uint32(pieces())
	return s
}

// Len is the true length of piece n.
func (s Stream) Len(n uint32) int {
	if n+1 < s.Pieces {
		return int(s.PieceSize)
	}
	return int(s.Bytes - int64(n)*int64(s.PieceSize))
}
