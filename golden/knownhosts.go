package golden

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/kamethod/kamethod/golden/status"
)

// maxKnownHosts bounds the file that is taken up: 4096 clones have 3 MB.
const maxKnownHosts = 64 << 20

// KnownHosts writes the clones' public ssh host keys into a file for ssh
// (UserKnownHostsFile), and tells how many clones have any. What the file says
// of others stays; names aren't hashed, so that a person can read it. An
// address is there only where it is the clone's own for good: what DHCP gave
// stage 2 may be another machine's tomorrow.
func KnownHosts(file string, r Result) (clones int, err error) {
	old, err := readKnownHosts(file)
	if err != nil {
		return 0, err
	}
	var fresh strings.Builder
	ours := map[string]bool{}
	for _, n := range r.Nodes {
		hosts := n.hosts()
		if len(n.HostKeys) == 0 || len(hosts) == 0 || n.State == status.Failed {
			continue
		}
		clones++
		for _, h := range hosts {
			ours[h] = true
		}
		for _, k := range n.HostKeys {
			if f := strings.Fields(k); len(f) >= 2 {
				fmt.Fprintf(&fresh, "%s %s %s\n", strings.Join(hosts, ","), f[0], f[1])
			}
		}
	}
	if clones == 0 {
		return 0, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return 0, fmt.Errorf("write the clones' host keys: %w", err)
	}
	if err := renameio.WriteFile(file, []byte(withoutHosts(old, ours)+fresh.String()), 0o644); err != nil {
		return 0, fmt.Errorf("write the clones' host keys: %w", err)
	}
	return clones, nil
}

func readKnownHosts(file string) (string, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read known hosts: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKnownHosts+1))
	if err != nil {
		return "", fmt.Errorf("read known hosts: %w", err)
	}
	if len(b) > maxKnownHosts {
		return "", fmt.Errorf("read known hosts: %s has more than %d bytes", file, maxKnownHosts)
	}
	return string(b), nil
}

// hosts are the names of a clone, and its fixed addresses.
func (n NodeResult) hosts() []string {
	var out []string
	for _, h := range append([]string{n.Hostname, shortName(n.Hostname)}, n.Fixed...) {
		if h != "" && !slices.Contains(out, h) && !strings.ContainsAny(h, " ,*?!|@#[]\t\n") {
			out = append(out, h)
		}
	}
	return out
}

// withoutHosts leaves out the lines of sshd(8)'s format that are of one of
// these hosts: a machine that is cloned again has other keys.
func withoutHosts(text string, hosts map[string]bool) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], "@") ||
			!slices.ContainsFunc(strings.Split(f[0], ","), func(h string) bool { return hosts[h] }) {
			b.WriteString(line)
			if !strings.HasSuffix(line, "\n") {
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}
