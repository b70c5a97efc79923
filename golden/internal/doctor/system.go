package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// wanted are the capabilities without which nothing can be served.
type wanted struct {
	bit  uint
	name string
	why  string
}

func capabilities() []wanted {
	return []wanted{
		{unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", "ports 67 and 69 can't be opened"},
		{unix.CAP_NET_RAW, "CAP_NET_RAW", "machines that have no address yet can't be answered"},
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "the doctor can't ask as a machine would"},
	}
}

// system looks at what this process may do, and at SELinux.
func (e *exam) system() []Finding {
	var out []Finding
	have, err := effective(filepath.Join(e.root, "proc/self/status"))
	if err != nil {
		out = append(out, Finding{"system.capability", Note, "capabilities", err.Error(), ""})
	}
	for _, w := range capabilities() {
		if err == nil && have&(1<<w.bit) == 0 {
			out = append(out, Finding{"system.capability", Error, w.name, "is missing: " + w.why, "run golden-serve as root, or give it this capability"})
		}
	}
	b, err := os.ReadFile(filepath.Join(e.root, "sys/fs/selinux/enforce"))
	if err == nil && strings.TrimSpace(string(b)) == "1" && !selinuxKnows(e.TFTPRoot) {
		out = append(out, Finding{"system.selinux", Warning, e.TFTPRoot, "SELinux is enforcing, and this folder is none where it expects boot files: a golden-serve that systemd started may be forbidden to read it",
			fmt.Sprintf("semanage fcontext -a -t tftpdir_t '%s(/.*)?' && restorecon -R %s; ausearch -m avc -ts recent shows what was forbidden", e.TFTPRoot, e.TFTPRoot)})
	}
	return out
}

// selinuxKnows tells whether the standard policy labels a folder for TFTP.
func selinuxKnows(dir string) bool {
	for _, d := range []string{"/srv/tftp", "/var/lib/tftpboot", "/tftpboot"} { // file_contexts of refpolicy's module tftp
		if dir == d || strings.HasPrefix(dir, d+"/") {
			return true
		}
	}
	return false
}

// effective reads the capabilities of this process (proc(5), CapEff).
func effective(file string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			var n uint64
			if _, err := fmt.Sscanf(strings.TrimSpace(v), "%x", &n); err != nil {
				return 0, fmt.Errorf("read CapEff %q of %s: %w", v, file, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("read %s: no CapEff", file)
}
