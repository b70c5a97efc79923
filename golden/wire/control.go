package wire

import (
	"net/netip"

	"github.com/kamethod/kamethod/golden/trust"
)

// Stages in which a machine registers.
const (
	Stage1  = "stage1"  // booted from the network, wants stage 2
	Stage2  = "stage2"  // wants to become a clone
	Receive = "receive" // karecv on an ordinary host
	RunRAM  = "ram"     // booted from the network, wants to run in its memory what golden sends
)

// Paths of the control server.
const (
	RegisterPath = "/v1/register" // POST Register, answered Registered
	OrdersPath   = "/v1/orders"   // GET ?after=SEQ, answered with Orders, one JSON value a line, as long as the node lives
	ReportsPath  = "/v1/reports"  // POST of Reports, one JSON value a line, as long as the node lives
)

// Limits on the control connection, in bytes.
const (
	MaxMessage = 16 << 20 // one JSON line
	MaxName    = 255      // a session's, host's or file's name
)

// Register is a node's first word to golden.
type Register struct {
	Version  int      `json:"version"`
	Session  string   `json:"session"`
	Token    string   `json:"token"`
	Stage    string   `json:"stage"`
	DataPort int      `json:"data_port"` // where it takes frames
	Queue    int      `json:"queue"`     // pieces that wait for its disk at most
	Hostname string   `json:"hostname,omitempty"`
	MAC      string   `json:"mac,omitempty"`      // of the interface that booted
	UUID     string   `json:"uuid,omitempty"`     // SMBIOS
	NodeID   int      `json:"node_id,omitempty"`  // of its boot line; 0: it has none
	Card     string   `json:"card,omitempty"`     // what it calls the interface that booted: "eth0"
	Firmware string   `json:"firmware,omitempty"` // BIOS or UEFI; empty: it doesn't say
	Memory   int64    `json:"memory,omitempty"`   // bytes
	Disks    []Device `json:"disks,omitempty"`
	Holds    bool     `json:"holds,omitempty"`  // it will say which pieces it has: golden is to wait for that before it sends them
	Resume   *Resume  `json:"resume,omitempty"` // it was in a session of this name already, and lost golden

	// Replication is the boot line's last word (Params.Replication); empty: the
	// node doesn't say.
	Replication string `json:"replication,omitempty"`

	From netip.Addr `json:"-"` // where it registered from, as golden sees it
}

// Resume is where a node was when it lost golden.
type Resume struct {
	State  string      `json:"state"`            // package status has the words
	Source string      `json:"source,omitempty"` // LinkOrder.Source of the transfer that it was in
	Ready  *DiskResult `json:"ready,omitempty"`  // its disks are prepared
	Done   *Done       `json:"done,omitempty"`   // it only waits for its release
}

// Device is a disk of a node, for golden to show.
type Device struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
}

// Registered is golden's answer.
type Registered struct {
	Node   uint32 `json:"node"`   // what the chain calls it, from 1
	Number int    `json:"number"` // what people call it, from 1
	Golden string `json:"golden"` // this run of golden; another one knows nothing of earlier orders
}

// Order is what golden tells a node. One of the pointers is set, or Ping.
type Order struct {
	Seq     int        `json:"seq"` // from 1; a node that comes back asks for those after the last it has
	Ping    bool       `json:"ping,omitempty"`
	Link    *LinkOrder `json:"link,omitempty"`
	Plan    *Plan      `json:"plan,omitempty"`    // prepare the disks by it
	Run     *Run       `json:"run,omitempty"`     // who it is that runs what comes
	Release *Release   `json:"release,omitempty"` // all is done: go
	Stop    string     `json:"stop,omitempty"`    // give up, and why
}

// Release lets a node go.
type Release struct {
	Reboot bool   `json:"reboot"`
	Torn   string `json:"torn,omitempty"` // what golden sent is not one consistent version, and why
}

// Peer is a neighbour in the chain.
type Peer struct {
	ID    uint32    `json:"id"`             // 0 is golden
	Addr  string    `json:"addr,omitempty"` // host:port; only where it is to be dialled
	Pin   trust.Pin `json:"pin"`
	Epoch uint32    `json:"epoch"`          // of this hop; grows with each change
	Shed  bool      `json:"shed,omitempty"` // its link is slow: what it can't take in time is left out, and comes in another lap
}

// LinkOrder gives a node its place in the chain. A nil Next makes it the tail.
type LinkOrder struct {
	Transfer TransferID `json:"transfer"`
	Source   string     `json:"source,omitempty"` // names what is sent: two transfers of the same source have the same pieces
	Streams  []Stream   `json:"streams"`
	Open     bool       `json:"open,omitempty"` // further streams may be announced: who has all pieces is not complete yet
	Plain    bool       `json:"plain,omitempty"`
	Quiet    int        `json:"quiet,omitempty"` // milliseconds of silence after which a neighbour is gone; 0: the node's own idea
	Prev     Peer       `json:"prev"`
	Next     *Peer      `json:"next,omitempty"`
	End      bool       `json:"end,omitempty"` // the transfer is over
}

// Report is what a node tells golden.
type Report struct {
	State string      `json:"state,omitempty"` // package status has the words
	Lines []string    `json:"lines,omitempty"` // log
	Link  *LinkReport `json:"link,omitempty"`
	Fault *Fault      `json:"fault,omitempty"`
	Ready *DiskResult `json:"ready,omitempty"` // disks are prepared
	Done  *Done       `json:"done,omitempty"`
}

// Fault ends a node's part.
type Fault struct {
	Stage string `json:"stage"`
	Cause string `json:"cause"`
}

// Done says that a node has become a clone, and what of it is new.
type Done struct {
	HostKeys  []string  `json:"host_keys,omitempty"`
	Notes     []string  `json:"notes,omitempty"`
	Steps     []FixStep `json:"steps,omitempty"`      // what was changed, and why
	MoreFiles int       `json:"more_files,omitempty"` // so many were changed besides those in Steps
	Leftovers []string  `json:"leftovers,omitempty"`  // where golden is still named: "/etc/foo:12: …"
}

// FixStep is what one step of the fix-up did.
type FixStep struct {
	Name     string    `json:"name"`
	Skipped  string    `json:"skipped,omitempty"` // why there was nothing to do
	Files    []FixFile `json:"files,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
	Seconds  float64   `json:"seconds"`
}

// FixFile is a file of the clone that was changed, made or removed.
type FixFile struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// MaxFixFiles is how many files a node names in its Done; the others are
// counted. A clone has a hundred or so.
const MaxFixFiles = 2000

// LinkReport is a node's place in a transfer.
type LinkReport struct {
	Transfer TransferID `json:"transfer"`
	Settled  uint64     `json:"settled"`           // every frame up to this seq is stored or dropped
	Stored   int64      `json:"stored"`            // bytes, of pieces
	Held     uint64     `json:"held"`              // pieces
	Lap      uint32     `json:"lap,omitempty"`     // this lap has ended here …
	Missing  []Range    `json:"missing,omitempty"` // … and this is still missing
	Complete bool       `json:"complete,omitempty"`
	Root     *Hash      `json:"root,omitempty"`     // with Complete: over all pieces …
	Streams  int        `json:"streams,omitempty"`  // … of so many streams
	Have     []Have     `json:"have,omitempty"`     // what it held before the transfer, in the order of the streams
	HaveAll  bool       `json:"have_all,omitempty"` // that was all
	Hop      *Hop       `json:"hop,omitempty"`      // how fast the next node takes what it is sent
	Lost     *Trouble   `json:"lost,omitempty"`     // with the next node
	Bad      *Trouble   `json:"bad,omitempty"`      // a piece from the one before was wrong
	Broken   string     `json:"broken,omitempty"`   // the sink failed; still relaying
}

// Have is what a node holds of a run of pieces, from From on.
type Have struct {
	Stream uint16 `json:"stream"`
	From   uint32 `json:"from"`
	Sums   []byte `json:"sums"` // SumSize bytes a piece, of its hash; zeros: not held
}

// SumSize is how many bytes of a piece's hash a node claims it by. It is a
// hint only: the node compares all 32 when golden says KeptFrame.
const SumSize = 8

// Hop is how a hop did in the last second.
type Hop struct {
	Peer     uint32  `json:"peer"`
	Epoch    uint32  `json:"epoch"`
	Rate     int64   `json:"rate"`     // bytes a second while there was something to send and room for it
	Busy     float64 `json:"busy"`     // share of the time in which there was something to send
	Receiver float64 `json:"receiver"` // share of the time in which the next node's full window was what held it up
}

// Trouble is with a neighbour.
type Trouble struct {
	Peer  uint32 `json:"peer"`
	Epoch uint32 `json:"epoch"`
	Why   string `json:"why"`
	Stall bool   `json:"stall,omitempty"` // it takes nothing any more, but the connection stands
}

// Range is pieces From to To (not included) of a stream.
type Range struct {
	Stream uint16 `json:"stream"`
	From   uint32 `json:"from"`
	To     uint32 `json:"to"`
}
