package netboot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// portError says who sits on a port and what can be done about it.
func (l *link) portError(proto string, port int, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s port %d of %s: %w", proto, port, l.name, err)
	}
	advice := "stop it"
	switch port {
	case dhcpServerPort:
		advice = "another DHCP server runs here: stop it or use --dhcp proxy"
	case proxyPort:
		advice = "another PXE server runs here: stop it or use --dhcp off"
	case tftpPort:
		advice = "another TFTP server runs here: stop it"
	}
	holder := portHolder(proto, port)
	if strings.Contains(holder, "golden-serve") {
		advice = "golden-serve sessions runs several sessions at once"
	}
	return fmt.Errorf("%s port %d on %s is in use%s: %s: %w", proto, port, l.name, holder, advice, err)
}

// portHolder names the processes that hold a local port, " by dnsmasq (pid
// 12)", or nothing if that can't be seen.
func portHolder(proto string, port int) string {
	inodes := map[string]bool{}
	for _, f := range []string{proto, proto + "6"} {
		b, err := os.ReadFile("/proc/self/net/" + f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			// proc(5): sl local_address rem_address st queues tr retrnsmt uid timeout inode
			w := strings.Fields(line)
			if len(w) > 9 && strings.HasSuffix(w[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+w[9]+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return ""
	}
	var who []string
	seen := map[string]bool{}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the only error is a bad pattern
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		pid := strings.Split(fd, "/")[2]
		if err != nil || !inodes[to] || seen[pid] {
			continue
		}
		seen[pid] = true
		if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil {
			who = append(who, fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid))
		}
	}
	if len(who) == 0 {
		return ""
	}
	return " by " + strings.Join(who, ", ")
}
