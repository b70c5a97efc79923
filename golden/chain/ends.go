package chain

import (
	"context"
	"errors"

	"github.com/kamethod/kamethod/golden/wire"
)

// Source is what the head sends: streams whose pieces can be read again at
// any time, in any order, from several goroutines.
type Source interface {
	Streams() []wire.Stream
	// ReadPiece fills buf, which is as long as the piece, and nothing more.
	ReadPiece(stream uint16, piece uint32, buf []byte) error
}

// Settler is a Source whose pieces may change while they are sent: files of a
// machine that is in use.
type Settler interface {
	Source
	// Settle is called when every piece was read once, and again with pieces
	// that are not any more what they were when they were sent first. It keeps
	// copies of the files that changed, and of those that have a part in void,
	// and returns the streams with them: once a node has these streams, what
	// they hold replaces what the streams before held. None: nothing changed.
	Settle(ctx context.Context, void []wire.Range) ([]wire.Stream, error)
}

// Sink is where a node's verified pieces go. Put is called from several
// goroutines, once per piece and in no order; data is the chain's again when
// Put returns. A Put that returns ErrNotYet leaves the piece missing, to come
// again in the next lap; any other error means the sink is broken: the node
// goes on relaying and is reported failed with that error.
type Sink interface {
	Put(stream uint16, piece uint32, data []byte) error
}

// Grower is a Sink that takes streams which golden announces in the middle of
// a transfer. Grow gets all of them, those it knows first, before the first
// piece of a new one is Put.
type Grower interface {
	Grow(streams []wire.Stream) error
}

// Holder finds what a node holds already: Held hashes the pieces that are
// there, in the order of the streams, and tells of each; a piece that it
// doesn't tell of is not held. It waits for what it needs to know them by,
// such as a manifest that is Put meanwhile. The pieces it told of may be
// overwritten by Put like any other.
type Holder interface {
	Held(ctx context.Context, tell func(stream uint16, piece uint32, h wire.Hash)) error
}

// ErrNotYet is a sink's answer to a piece that came before what it depends
// on, such as file contents before the manifest.
var ErrNotYet = errors.New("piece came before what it depends on")
