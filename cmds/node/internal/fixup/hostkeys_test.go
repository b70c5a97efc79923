package fixup

import (
	"log/slog"
	"os/exec"
	"strings"
	"testing"
)

// What dropbearkey 2022.83 prints for a key.
const dropbearSays = "Public key portion is:\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKqP9m5v5mFNRCr0lGKCyBVRTbY0iPNXKqp1bVKUIQ9m root@rescue\nFingerprint: SHA256:abc\n"

func TestPublicKey(t *testing.T) {
	for in, want := range map[string]string{
		dropbearSays:               "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKqP9m5v5mFNRCr0lGKCyBVRTbY0iPNXKqp1bVKUIQ9m",
		"ecdsa-sha2-nistp256 AAAA": "ecdsa-sha2-nistp256 AAAA",
		"ssh-rsa !\nssh-rsa\n":     "",
		"":                         "",
	} {
		if got, ok := publicKey(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
}

// TestDropbearKeys makes real ones; golden is told of them, as of sshd's.
func TestDropbearKeys(t *testing.T) {
	if _, err := exec.LookPath("dropbearkey"); err != nil {
		t.Skip("no dropbearkey here: package dropbear-bin")
	}
	const key = "/etc/dropbear/initramfs/dropbear_ed25519_host_key"
	c := hostClone(t, map[string]string{key[1:]: "golden"}, slog.New(slog.DiscardHandler))
	if err := fixHostKeys(t.Context(), c, &StepReport{}); err != nil {
		t.Fatal(err)
	}
	if k := c.report.HostKeys; len(k) != 1 || !strings.HasPrefix(k[0], "ssh-ed25519 ") || !strings.HasSuffix(k[0], " root@node7") {
		t.Errorf("keys %q", k)
	}
	if c.tree.firstLine(key) == "golden" {
		t.Error("golden's key stays")
	}
}

func FuzzPublicKey(f *testing.F) {
	f.Add(dropbearSays)
	f.Fuzz(func(t *testing.T, said string) {
		if got, ok := publicKey(said); ok && len(strings.Fields(got)) != 2 {
			t.Fatalf("%q", got)
		}
	})
}
