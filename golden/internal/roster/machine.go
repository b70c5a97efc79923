package roster

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// State is how far a machine is, as the boot servers see it.
type State string

// The states, in the order in which a machine that becomes a clone has them.
const (
	Unknown State = ""        // nobody has heard of it; never kept
	Seen    State = "seen"    // has asked, or was armed and is not any more
	Armed   State = "armed"   // will be told to boot the image
	Booting State = "booting" // was told
	Cloning State = "cloning" // has registered; stays so when it crashes
	Done    State = "done"
	Failed  State = "failed"
)

// Why is who has armed a machine.
type Why string

// Who can arm.
const (
	ByComing Why = "coming" // the first so many that ask
	ByList   Why = "list"   // --macs
	ByVerb   Why = "verb"   // golden-serve arm
)

// Machine is one line of the list, and of the journal.
type Machine struct {
	MAC     string    `json:"mac"`
	State   State     `json:"state"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"` // armed, booting: the time limit
	By      Why       `json:"armed_by,omitempty"`
	Extra   bool      `json:"extra,omitempty"`   // armed beyond the session's number, by the administrator's word
	Barred  bool      `json:"barred,omitempty"`  // disarmed: isn't armed by coming
	Was     State     `json:"was,omitempty"`     // in an earlier session of this name
	Home    bool      `json:"home,omitempty"`    // done or failed, and told to boot its disk since
	Number  int       `json:"number,omitempty"`  // the node's
	Name    string    `json:"name,omitempty"`    // the clone's
	Address string    `json:"address,omitempty"` // IP
	Arch    string    `json:"arch,omitempty"`    // of its firmware
	UUID    string    `json:"uuid,omitempty"`    // SMBIOS
	Last    string    `json:"last,omitempty"`    // what it did last, in words
	LastAt  time.Time `json:"last_at,omitzero"`
	Error   string    `json:"error,omitempty"`
	Boots   int       `json:"boots,omitempty"` // boot configurations with the image that it got
	Lost    int       `json:"lost,omitempty"`  // crashes in the middle

	dirty bool // differs from its last line in the journal
}

// Longest texts that are kept, in bytes. They bound a line of the journal:
// clean leaves nothing that JSON writes with more than two bytes.
const (
	maxWord  = 64
	maxCause = 200
)

// clean makes a text of foreign bytes one that can be shown and kept.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

// ParseMAC brings the address of a network card into the form of the list. One
// of a group, or none, is no machine's (IEEE 802-2014, 8.2.2: the I/G bit).
func ParseMAC(s string) (string, error) {
	hw, err := net.ParseMAC(strings.TrimSpace(s))
	if err != nil {
		return "", fmt.Errorf("network card address %q: want six pairs of hexadecimal digits", s)
	}
	zero := true
	for _, b := range hw {
		zero = zero && b == 0
	}
	if zero || len(hw) == 6 && hw[0]&1 != 0 {
		return "", fmt.Errorf("network card address %q is no single machine's", s)
	}
	return hw.String(), nil
}

// holds tells whether a machine in this state has one of the session's places.
// A place is never given to another while the machine may have been written
// to: that one's disk is not what the administrator meant.
func (s State) holds() bool {
	return s == Armed || s == Booting || s == Cloning || s == Done || s == Failed
}

// limited tells whether a machine may be in this state for some time only.
func (s State) limited() bool { return s == Armed || s == Booting }
