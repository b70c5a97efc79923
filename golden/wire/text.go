package wire

import (
	"encoding/hex"
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
