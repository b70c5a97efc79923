// Package handover is what stage 1 tells stage 2: a file under /run, the one
// file system that both see. It holds facts only; what to do with the disks
// comes from the golden node.
//
//	stage 1 init ──Save──▶ /run/kamethod/state.json ──Load──▶ stage 2 init, clone
package handover

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/kamethod/kamethod/cmds/node/internal/nic"
	"github.com/kamethod/kamethod/golden/wire"
)

// Dir holds everything that goes from stage 1 to stage 2.
const Dir = "/run/kamethod"

// The files in Dir, and where stage 1 finds the pin that was built into it.
const (
	Path         = Dir + "/state.json"
	KeyFile      = Dir + "/node.key"
	PinFile      = Dir + "/golden.pub"
	BuiltPinFile = "/etc/kamethod/golden.pub"
)

// What is beside Path: HOST:PORT of the golden node that stage 2 has registered
// with, and how far golden has been told of the console.
const (
	ServerName  = "server"
	ConsoleName = "console"
)

// State is what stage 2 can't find out by itself.
type State struct {
	Server    string     `json:"server"`            // HOST:PORT of the golden node's control server; empty where stage 2 came from a file server
	Places    []string   `json:"places,omitempty"`  // then: where to look for the golden node, "" asks the network
	Session   string     `json:"session,omitempty"` // kaopt=
	Token     string     `json:"token,omitempty"`   // the right to join
	Interface string     `json:"interface"`
	MAC       string     `json:"mac"`
	NodeID    int        `json:"node_id,omitempty"`
	Lease     *nic.Lease `json:"lease"`
	KeyFile   string     `json:"key_file,omitempty"` // this node's own key, PEM
	PinFile   string     `json:"pin_file,omitempty"` // the golden node's public key
	Rescue    bool       `json:"rescue,omitempty"`   // the rescue system, not a clone
	Method    string     `json:"method,omitempty"`   // how stage 2 came: "ka", "dolly", "nfs", "http", "ftp"
	Break     string     `json:"break,omitempty"`    // ka.break=
	Shell     bool       `json:"shell,omitempty"`    // ka.shell

	// Replication is the boot line's last word, wire.KaMethod, DollyMethod or
	// DollyCMethod; empty for the rescue system. DollyTimeout is how long the
	// two of Dolly look for their server, in each of their three tries.
	Replication  string        `json:"replication,omitempty"`
	DollyTimeout time.Duration `json:"dolly_timeout,omitempty"`
}

// Dolly says whether the boot line's last word asks for Dolly or Dolly+.
func (s *State) Dolly() bool {
	return s.Replication == wire.DollyMethod || s.Replication == wire.DollyCMethod
}

// maxState is far more than a state is.
const maxState = 1 << 20

// Save writes the state for root alone: the token is in it.
func (s *State) Save(path string) error {
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("encode the state for stage 2: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save the state for stage 2: %w", err)
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the state for stage 2: %w", err)
	}
	return nil
}

// Load reads what Save wrote.
func Load(path string) (*State, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load what stage 1 left: %w", err)
	}
	if st.Size() > maxState {
		return nil, fmt.Errorf("load what stage 1 left: %s has %d bytes, more than %d", path, st.Size(), maxState)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load what stage 1 left: %w", err)
	}
	s := &State{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("load what stage 1 left in %s: %w", path, err)
	}
	return s, nil
}
