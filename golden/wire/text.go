package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// MarshalText and UnmarshalText let hashes and transfer names stand in JSON.
func (h Hash) MarshalText() ([]byte, error) { return hexText(h[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(b []byte) error { return unhex(h[:], b) }

// MarshalText writes hexadecimal.
func (t TransferID) MarshalText() ([]byte, error) { return hexText(t[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *TransferID) UnmarshalText(b []byte) error { return unhex(t[:], b) }

func hexText(b []byte) []byte { return []byte(hex.EncodeToString(b)) }

func unhex(dst, b []byte) error {
	if len(b) != 2*len(dst) {
		return fmt.Errorf("%d hexadecimal digits, want %d", len(b), 2*len(dst))
	}
	_, err := hex.Decode(dst, b)
	return err
}

// Finding golden on the local network: a node broadcasts FindRequest to port
// ControlPort/udp, golden answers FindReply. The address that the answer
// comes from is golden's; who it really is shows its key on the control
// connection.
const (
	findWord = "KA1 FIND "
	hereWord = "KA1 HERE "
)

// FindRequest asks who serves a session.
func FindRequest(session string) []byte { return []byte(findWord + session + "\n") }

// ParseFind reads the session's name out of a FindRequest.
func ParseFind(b []byte) (session string, ok bool) { return findName(b, findWord) }

// FindReply says that golden serves a session, on a control port.
func FindReply(session string, port int) []byte {
	return []byte(hereWord + strconv.Itoa(port) + " " + session + "\n")
}

// ParseHere reads a FindReply.
func ParseHere(b []byte) (session string, port int, ok bool) {
	rest, ok := findName(b, hereWord)
	if !ok {
		return "", 0, false
	}
	p, session, ok := strings.Cut(rest, " ")
	if !ok {
		return "", 0, false
	}
	port, err := strconv.Atoi(p)
	return session, port, err == nil && port > 0 && port < 1<<16 && session != ""
}

func findName(b []byte, word string) (string, bool) {
	s, ok := strings.CutPrefix(string(b), word)
	if !ok || len(s) > MaxName+8 {
		return "", false
	}
	s, ok = strings.CutSuffix(s, "\n")
	return s, ok && s != "" && !strings.ContainsAny(s, "\n\x00")
}

// Golden nodes ask each other, too: one that is about to boot machines sends
// RivalRequests, and who boots machines there answers for each of its sessions.
// It is no secret: the network would hear the same a moment later.
const (
	whoWord = "KA1 WHO "
	amWord  = "KA1 AM "
)

// MaxAsked is how many network cards one RivalRequest asks about: more would
// not fit into an Ethernet frame. maxRival bounds what is read.
const (
	MaxAsked = 50
	maxRival = 1472 // UDP's part of a frame of 1500 bytes
)

// RivalRequest asks who else boots machines here.
type RivalRequest struct {
	Golden string   `json:"golden"`         // who asks
	MACs   []string `json:"macs,omitempty"` // machines that it means to boot
}

// RivalReply is the answer for a session.
type RivalReply struct {
	Golden  string   `json:"golden"` // who answers
	Session string   `json:"session"`
	Any     bool     `json:"any,omitempty"`  // it takes whatever machine comes
	MACs    []string `json:"macs,omitempty"` // those asked for that are its own
}

// Marshal writes the request as it is sent.
func (r RivalRequest) Marshal() []byte { return rivalText(whoWord, r) }

// Marshal writes the reply as it is sent.
func (r RivalReply) Marshal() []byte { return rivalText(amWord, r) }

func rivalText(word string, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error()) // plain fields
	}
	return append([]byte(word), b...)
}

// ParseRivalRequest reads a RivalRequest.
func ParseRivalRequest(b []byte) (r RivalRequest, ok bool) {
	ok = rival(b, whoWord, &r)
	return r, ok && r.Golden != "" && len(r.Golden) <= MaxName && len(r.MACs) <= MaxAsked
}

// ParseRivalReply reads a RivalReply.
func ParseRivalReply(b []byte) (r RivalReply, ok bool) {
	ok = rival(b, amWord, &r)
	return r, ok && r.Golden != "" && r.Session != "" && len(r.Session) <= MaxName && len(r.MACs) <= MaxAsked
}

func rival(b []byte, word string, v any) bool {
	rest, ok := bytes.CutPrefix(b, []byte(word))
	return ok && len(b) <= maxRival && json.Unmarshal(rest, v) == nil
}
