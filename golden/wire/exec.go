package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kamethod/kamethod/golden/trust"
)

// Paths of the control server for agents: what runs programs on a node in
// stage 2, as the administrator says.
const (
	AgentPath   = "/v1/agent"         // POST AgentHello, answered with AgentOrders, one JSON value a line, as long as the agent lives
	AnswersPath = "/v1/agent/answers" // POST ?exec=SERIAL of ExecFrames, one JSON value a line, as long as the program runs
	ConsolePath = "/v1/agent/console" // POST ConsoleLines
)

// Limits of an exec, in bytes unless said otherwise.
const (
	MaxArgv      = 128 << 10 // of a program and its arguments together
	MaxExecNodes = 4096      // as many as golden takes
	MaxExecOrder = 2 << 20   // an ExecOrder: a node takes up 250
	MaxExecOut   = 16 << 10  // what a program has said, in one frame
	MaxExecFrame = 64 << 10  // an ExecFrame as a line: base64 makes 4 of 3
	MaxConsole   = 1000      // lines of a node's console at a time
)

// AgentHello is an agent's first word to golden.
type AgentHello struct {
	Nonce string `json:"nonce"`          // made anew by each process: an order for the one before isn't for this one
	Port  int    `json:"port,omitempty"` // where other nodes' agents reach it; 0: nowhere
}

// AgentOrder is what an agent hears: from golden, or from the node that is
// above it in the tree of an exec.
type AgentOrder struct {
	Ping    bool          `json:"ping,omitempty"`
	Welcome *AgentWelcome `json:"welcome,omitempty"`
	Exec    *SignedExec   `json:"exec,omitempty"`
	Cancel  uint64        `json:"cancel,omitempty"` // end the program of this exec
}

// AgentWelcome is golden's answer to AgentHello.
type AgentWelcome struct {
	Golden string `json:"golden"`           // this run of golden
	Number int    `json:"number"`           // what people call the node
	Listen bool   `json:"listen,omitempty"` // it may be below another node in a tree: open a port, and say hello again
}

// SignedExec is an ExecOrder with golden's signature: a node obeys it,
// whoever has brought it.
type SignedExec struct {
	Order []byte `json:"order"`          // ExecOrder, as JSON
	Key   []byte `json:"key"`            // golden's public key
	Sig   []byte `json:"sig"`            // of Order, by it
	From  uint64 `json:"from,omitempty"` // answer from this frame on: golden has the earlier ones
}

// ExecOrder has a program run on nodes, each of which tells the nodes below
// it.
type ExecOrder struct {
	Golden string     `json:"golden"` // this run of golden
	Serial uint64     `json:"serial"` // grows with each exec of it
	Argv   []string   `json:"argv"`
	Limit  int        `json:"limit"` // seconds that the program may run
	Nodes  []ExecNode `json:"nodes"` // whoever is above another comes before it
}

// ExecNode is a place in the tree of an exec.
type ExecNode struct {
	Number int       `json:"number"`
	Above  int       `json:"above"`          // index in Nodes; -1: golden itself
	Addr   string    `json:"addr,omitempty"` // host:port; empty where golden is above
	Pin    trust.Pin `json:"pin"`
	Nonce  string    `json:"nonce"` // AgentHello.Nonce
}

// ExecFrame is what comes back. A frame with Seq is a node's own and is passed
// on as it is; others are said by who sends them.
type ExecFrame struct {
	Node int       `json:"node,omitempty"`
	Seq  uint64    `json:"seq,omitempty"` // from 1, of this node
	Out  []byte    `json:"out,omitempty"`
	Err  bool      `json:"err,omitempty"`  // Out is of its standard error
	Exit *ExecExit `json:"exit,omitempty"` // the last of a node
	Lost string    `json:"lost,omitempty"` // Node, and who is below it, can't be reached, and why
	End  bool      `json:"end,omitempty"`  // there is nothing more to come
}

// ExecExit is how a program ended.
type ExecExit struct {
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
	Error  string `json:"error,omitempty"` // why it didn't run, or was ended
}

// ConsoleLines are a node's console and the warnings of its kernel.
type ConsoleLines struct {
	Lines []string `json:"lines"`
}

const execPurpose = "exec order 1"

// SignExec makes an order that nodes obey.
func SignExec(golden *trust.Identity, o ExecOrder) (SignedExec, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return SignedExec{}, fmt.Errorf("encode exec order: %w", err)
	}
	s := SignedExec{Order: b}
	s.Key, s.Sig, err = golden.Sign(execPurpose, b)
	return s, err
}

// Open checks that an order is golden's, and reads it.
func (s SignedExec) Open(golden trust.Pin) (ExecOrder, error) {
	var o ExecOrder
	if len(s.Order) > MaxExecOrder {
		return o, fmt.Errorf("exec order: %d bytes, at most %d", len(s.Order), MaxExecOrder)
	}
	if err := trust.Verify(golden, execPurpose, s.Key, s.Sig, s.Order); err != nil {
		return o, err
	}
	return ParseExec(s.Order)
}

// ParseExec reads an order and checks that its tree is one.
func ParseExec(b []byte) (ExecOrder, error) {
	var o ExecOrder
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	if err := in.Decode(&o); err != nil {
		return o, fmt.Errorf("exec order: %w", err)
	}
	return o, o.check()
}

func (o ExecOrder) check() error {
	switch {
	case o.Golden == "" || o.Serial == 0:
		return errors.New("exec order: it doesn't say of which golden, and the how manieth")
	case o.Limit <= 0:
		return fmt.Errorf("exec order: a limit of %d s", o.Limit)
	case len(o.Nodes) > MaxExecNodes:
		return fmt.Errorf("exec order: %d nodes, at most %d", len(o.Nodes), MaxExecNodes)
	}
	if err := CheckArgv(o.Argv); err != nil {
		return fmt.Errorf("exec order: %w", err)
	}
	seen := map[int]bool{}
	for i, n := range o.Nodes {
		if n.Above < -1 || n.Above >= i {
			return fmt.Errorf("exec order: node %d is below place %d, which isn't before it", n.Number, n.Above)
		}
		if seen[n.Number] || n.Pin.IsZero() || n.Nonce == "" || len(n.Nonce) > MaxName || len(n.Addr) > MaxName {
			return fmt.Errorf("exec order: node %d is in it twice, or has no key", n.Number)
		}
		seen[n.Number] = true
	}
	return nil
}

// CheckArgv tells whether a program can be run by these words.
func CheckArgv(argv []string) error {
	size := 0
	for _, a := range argv {
		size += len(a) + 1
		if bytes.IndexByte([]byte(a), 0) >= 0 {
			return fmt.Errorf("argument %q has a zero byte", a)
		}
	}
	switch {
	case len(argv) == 0 || argv[0] == "":
		return errors.New("no program is named")
	case size > MaxArgv:
		return fmt.Errorf("program and arguments have %d bytes, at most %d", size, MaxArgv)
	}
	return nil
}
