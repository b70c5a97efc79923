package chain

import (
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

// Sink is where a node's verified pieces go. Put is called from several
// goroutines, once per piece and in no order; data is the chain's again when
// Put returns. A Put that returns ErrNotYet leaves the piece missing, to come
// again in the next lap; any other error means the sink is broken: the node
// goes on relaying and is reported failed with that error.
type Sink interface {
	Put(stream uint16, piece uint32, data []byte) error
}

// ErrNotYet is a sink's answer to a piece that came before what it depends
// on, such as file contents before the manifest.
var ErrNotYet = errors.New("piece came before what it depends on")
