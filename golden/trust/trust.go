// Package trust holds the keys by which golden and its nodes know each other,
// and the TLS settings made of them. There is no certificate authority, no
// name and no clock in it: a peer is its public key, compared with a pin that
// came by another way (baked into stage 1, or told by golden).
//
//	/etc/kamethod/golden.key ──▶ Identity ──▶ control and data, golden's side
//	            golden.pub   ──▶ Pin      ──▶ every node checks golden by it
//	made anew in each node   ──▶ Identity ──▶ golden hands its Pin to the neighbours
//
// All connections are TLS 1.3 with both sides' keys checked. A pin is the
// SHA-256 of the key's SubjectPublicKeyInfo (the form of RFC 7858, section 4.2).
package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Files in the key folder.
const (
	KeyFile   = "golden.key" // private, PEM, mode 0600
	PinFile   = "golden.pub" // the pin of golden.key, one line
	TokenFile = "join.token" // what a receiver must know to be let in by send
)

// Dir is where keys are kept: /etc/kamethod, or what KAMETHOD_ETC says.
func Dir() string {
	if d := os.Getenv("KAMETHOD_ETC"); d != "" {
		return d
	}
	return "/etc/kamethod"
}

// Pin names a public key.
type Pin [sha256.Size]byte

const pinPrefix = "sha256:"

func (p Pin) String() string { return pinPrefix + hex.EncodeToString(p[:]) }

// IsZero tells whether no key is named.
func (p Pin) IsZero() bool { return p == Pin{} }

// MarshalText and UnmarshalText let a pin stand in JSON.
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Pin) UnmarshalText(b []byte) error {
	v, err := ParsePin(string(b))
	*p = v
	return err
}

// ParsePin reads the form that String writes.
func ParsePin(s string) (Pin, error) {
	var p Pin
	s = strings.TrimSpace(s)
	h, ok := strings.CutPrefix(s, pinPrefix)
	if !ok || len(h) != 2*len(p) {
		return p, fmt.Errorf("key pin %q: want sha256: and 64 hexadecimal digits", s)
	}
	if _, err := hex.Decode(p[:], []byte(h)); err != nil {
		return p, fmt.Errorf("key pin %q: %w", s, err)
	}
	return p, nil
}

// ErrNoKey is wrapped by what ReadPin says when there is no pin file.
var ErrNoKey = errors.New("no key")

// ReadPin reads golden's pin from a file.
func ReadPin(file string) (Pin, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return Pin{}, fmt.Errorf("read %s: %w: copy %s of the golden node here, or give its pin", file, ErrNoKey, PinFile)
	}
	if err != nil {
		return Pin{}, err
	}
	p, err := ParsePin(string(b))
	if err != nil {
		return p, fmt.Errorf("read %s: %w", file, err)
	}
	return p, nil
}

// Identity is a private key with the certificate that carries it.
type Identity struct {
	Cert tls.Certificate
	Pin  Pin
	key  *ecdsa.PrivateKey
}

// New makes a key that lives as long as the process, or until Save.
func New() (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return wrap(key)
}

// LoadOrCreate reads the golden key in dir; where there is none it makes one
// and writes it with its pin.
func LoadOrCreate(dir string) (*Identity, error) {
	path := filepath.Join(dir, KeyFile)
	id, err := Load(path)
	if errors.Is(err, os.ErrNotExist) {
		if id, err = New(); err != nil {
			return nil, err
		}
		if err = os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make key folder: %w", err)
		}
		if err = id.Save(path); errors.Is(err, os.ErrExist) { // another was faster
			id, err = Load(path)
		}
	}
	if err != nil {
		return nil, err
	}
	return id, writeIfOther(filepath.Join(dir, PinFile), id.Pin.String()+"\n", 0o644)
}

// Load reads a private key that Save wrote.
func Load(path string) (*Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("read key %s: no PEM block in it", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key %s: a %T, want an ECDSA key", path, k)
	}
	return wrap(key)
}

// Save writes the private key, readable by its owner alone. A key that is
// already there is left and is an error.
func (id *Identity) Save(path string) error {
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := writeNew(path, b); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// writeNew writes a file for its owner alone, whole or not at all, and only
// where there is none.
func writeNew(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}

func writeIfOther(path, content string, mode os.FileMode) error {
	if b, err := os.ReadFile(path); err == nil && string(b) == content {
		return nil
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// wrap makes the certificate. Its dates are the widest X.509 has: a node with
// a dead clock battery boots in 1970 or 2038 and must get in all the same.
func wrap(key *ecdsa.PrivateKey) (*Identity, error) {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, 4.1.2.5
		DNSNames:     []string{serverName},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &Identity{
		Cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		Pin:  sha256.Sum256(leaf.RawSubjectPublicKeyInfo),
		key:  key,
	}, nil
}

const serverName = "kamethod"

// ForeignKeyError says that a peer showed another key than the pinned one.
type ForeignKeyError struct{ Got, Want Pin }

func (e *ForeignKeyError) Error() string {
	return fmt.Sprintf("peer has a foreign key: it shows %s, pinned is %s", e.Got, e.Want)
}

// ClientConfig dials a peer that must have the key want.
func ClientConfig(id *Identity, want Pin) *tls.Config {
	c := base(id)
	c.ServerName = serverName
	c.InsecureSkipVerify = true // the pin is checked instead, below
	c.VerifyConnection = func(cs tls.ConnectionState) error { return Check(cs, want) }
	return c
}

// ServerConfig takes peers with any key; the caller asks PeerPin who it is.
func ServerConfig(id *Identity) *tls.Config {
	c := base(id)
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

func base(id *Identity) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.Cert},
		SessionTicketsDisabled: true,
	}
}

// PeerPin is the pin of the key that the other side proved to have.
func PeerPin(cs tls.ConnectionState) (Pin, error) {
	if len(cs.PeerCertificates) == 0 {
		return Pin{}, errors.New("peer showed no key")
	}
	return sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo), nil
}

// Check compares the other side's key with a pin.
func Check(cs tls.ConnectionState, want Pin) error {
	got, err := PeerPin(cs)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return &ForeignKeyError{Got: got, Want: want}
	}
	return nil
}

// NewToken is 128 random bits in hexadecimal: a session's secret word.
func NewToken() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// LoadOrCreateToken reads the join token in dir, making it when there is none.
func LoadOrCreateToken(dir string) (string, error) {
	path := filepath.Join(dir, TokenFile)
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read join token: %w", err)
	}
	t, err := NewToken()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make key folder: %w", err)
	}
	err = writeNew(path, []byte(t+"\n"))
	if errors.Is(err, os.ErrExist) { // another was faster
		return LoadOrCreateToken(dir)
	}
	if err != nil {
		return "", fmt.Errorf("write join token: %w", err)
	}
	return t, nil
}
