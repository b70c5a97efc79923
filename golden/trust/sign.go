package trust

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxKey bounds a public key that comes with a signature, in bytes; one of
// P-256 has 91.
const maxKey = 512

// digest is what is signed. purpose keeps a signature from being taken for one
// of another kind, and the tag for one of a TLS handshake, which begins with
// blanks (RFC 8446, section 4.4.3).
func digest(purpose string, b []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "kamethod signature\n%d %s\n", len(purpose), purpose)
	h.Write(b)
	return h.Sum(nil)
}

// Sign makes a signature that others can carry, and returns it with the public
// key: a pin alone doesn't check it.
func (id *Identity) Sign(purpose string, b []byte) (key, sig []byte, err error) {
	if sig, err = ecdsa.SignASN1(rand.Reader, id.key, digest(purpose, b)); err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", purpose, err)
	}
	return id.Cert.Leaf.RawSubjectPublicKeyInfo, sig, nil
}

// Verify checks that the owner of a pinned key has signed b.
func Verify(want Pin, purpose string, key, sig, b []byte) error {
	if len(key) > maxKey {
		return fmt.Errorf("check the signature of %s: a key of %d bytes, at most %d", purpose, len(key), maxKey)
	}
	if got := Pin(sha256.Sum256(key)); got != want {
		return fmt.Errorf("check the signature of %s: %w", purpose, &ForeignKeyError{Got: got, Want: want})
	}
	k, err := x509.ParsePKIXPublicKey(key)
	if err != nil {
		return fmt.Errorf("check the signature of %s: %w", purpose, err)
	}
	public, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("check the signature of %s: a key of type %T, want ECDSA", purpose, k)
	}
	if !ecdsa.VerifyASN1(public, digest(purpose, b), sig) {
		return fmt.Errorf("check the signature of %s: %w", purpose, ErrSignature)
	}
	return nil
}

// ErrSignature is a signature that isn't of these bytes and this key.
var ErrSignature = errors.New("the signature is wrong")
