package netboot

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// maxFixed bounds a list of fixed addresses: as many as a /16 has.
const maxFixed = 1 << 16

// ReadFixed reads a list of machines that always get the same address, one
// "MAC ADDRESS [NAME]" a line; # begins a comment. An address that is "-" is
// left to the pool: such a line gives a name only.
func ReadFixed(r io.Reader) (fixed map[string]netip.Addr, names map[string]string, err error) {
	fixed, names = map[string]netip.Addr{}, map[string]string{}
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		w := strings.Fields(text)
		if len(w) == 0 {
			continue
		}
		if err := readFixedLine(w, fixed, names); err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return fixed, names, sc.Err()
}

func readFixedLine(w []string, fixed map[string]netip.Addr, names map[string]string) error {
	if len(w) < 2 || len(w) > 3 {
		return fmt.Errorf("%q: want MAC ADDRESS [NAME]", strings.Join(w, " "))
	}
	k, err := macKey(w[0])
	if err != nil {
		return err
	}
	mac := macText(k)
	if _, ok := fixed[mac]; ok || names[mac] != "" {
		return fmt.Errorf("%s is there twice", mac)
	}
	if len(fixed) >= maxFixed {
		return fmt.Errorf("more than %d machines", maxFixed)
	}
	if w[1] != "-" {
		a, err := netip.ParseAddr(w[1])
		if err != nil || !a.Is4() {
			return fmt.Errorf("address %q: want an IPv4 address", w[1])
		}
		fixed[mac] = a
	}
	if len(w) == 3 {
		names[mac] = w[2]
		return checkName(w[2])
	}
	return nil
}

// checkName refuses what is no host name (RFC 1123 2.1), so that option 12
// carries nothing that a client's script would stumble over.
func checkName(name string) error {
	if len(name) == 0 || len(name) > 253 { // RFC 1035 2.3.4
		return fmt.Errorf("host name of %d characters: want 1 to 253", len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("host name %q: label %q", name, label)
		}
	}
	if i := strings.IndexFunc(name, notInName); i >= 0 {
		return fmt.Errorf("host name %q: want letters, digits, hyphens and dots", name)
	}
	return nil
}

func notInName(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	return !letter && !('0' <= r && r <= '9') && r != '-' && r != '.'
}
