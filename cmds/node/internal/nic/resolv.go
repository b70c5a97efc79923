package nic

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// writeResolvConf writes what resolv.conf(5) needs; without name servers it
// leaves the file alone.
func (l *Lease) writeResolvConf(path string) error {
	if path == "" || len(l.DNS) == 0 {
		return nil
	}
	var b strings.Builder
	if l.Domain != "" {
		fmt.Fprintf(&b, "search %s\n", l.Domain)
	}
	for i, a := range l.DNS {
		if i == 3 { // MAXNS, resolv.h
			break
		}
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
