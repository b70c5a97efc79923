package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/klauspost/compress/zstd"
)

func execute(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	c := command()
	var out, errs bytes.Buffer
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&errs)
	err = c.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestHelp(t *testing.T) {
	out, _, err := execute(t, "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"EXIT STATUS", "--kernel", "--modules", "--pin-file", "rescue.sqfs", "-c, --base", "rescue.clp"} {
		if !strings.Contains(out, want) {
			t.Errorf("help lacks %q:\n%s", want, out)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Setenv("KAMETHOD_ETC", t.TempDir())
	dir := t.TempDir()
	notKernel := filepath.Join(dir, "notes.txt")
	badPin := filepath.Join(dir, "bad.pub")
	for _, f := range []string{notKernel, badPin} {
		if err := os.WriteFile(f, []byte("just text\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recipes := filepath.Join(dir, "recipes")
	if err := os.Mkdir(recipes, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"stage1.recipe": "dir /a\nfly away\n", "stage2.recipe": "dir /a\n"} {
		if err := os.WriteFile(filepath.Join(recipes, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args   []string
		words  []string
		status int
	}{
		{[]string{"--colour"}, []string{"--colour"}, 2},
		{[]string{"now"}, []string{`"now"`}, 2},
		{[]string{"-o", "xml"}, []string{`"xml"`}, 2},
		{[]string{"--kernel", "a", "--kernel-package", "b"}, []string{"--kernel-package"}, 2},
		{[]string{"--base", dir + "/none"}, []string{dir + "/none"}, 1},
		{[]string{"-c", notKernel}, []string{notKernel, "neither a folder nor squashfs"}, 1},
		{[]string{"--pin-file", dir + "/none"}, []string{dir + "/none", "no key"}, 1},
		{[]string{"--pin-file", badPin}, []string{badPin, "just text"}, 1},
		{[]string{"--kernel", dir + "/none"}, []string{dir + "/none"}, 1},
		{[]string{"--kernel", notKernel}, []string{notKernel, "not a Linux kernel"}, 1},
		{[]string{"--modules", dir}, []string{dir, "--kernel"}, 1},
		{[]string{"--recipes", recipes}, []string{"stage1.recipe", "line 2", `"fly"`}, 1},
	} {
		_, _, err := execute(t, append(tc.args, "-q", "--out", filepath.Join(dir, "out"))...)
		if err == nil {
			t.Errorf("%v: accepted", tc.args)
			continue
		}
		for _, w := range tc.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: error %q lacks %q", tc.args, err, w)
			}
		}
		if got := exitStatus(err); got != tc.status {
			t.Errorf("%v: exit status %d, want %d", tc.args, got, tc.status)
		}
	}
}

// TestImages makes the real images and boots stage 1 by PXE from the ready tree.
func TestImages(t *testing.T) {
	if testing.Short() {
		t.Skip("builds whole images")
	}
	t.Setenv("KAMETHOD_ETC", t.TempDir())
	out := t.TempDir()
	table, log, err := execute(t, "--source", "../../..", "--out", out, "--cache", "../../../images/.cache")
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for _, want := range []string{"vmlinuz ", "all.rdz ", "rescue.sqfs ", "tftp/pxelinux.cfg/default ", "meets its goal of 15613654 bytes"} {
		if !strings.Contains(table, want) {
			t.Errorf("table lacks %q:\n%s", want, table)
		}
	}
	t.Run("stage1", func(t *testing.T) { stage1Content(t, out) })
	t.Run("append", func(t *testing.T) { appendLine(t, out) })
	t.Run("pxe", func(t *testing.T) { pxeBoot(t, filepath.Join(out, "tftp")) })
}

func stage1Content(t *testing.T, out string) {
	files := unpack(t, filepath.Join(out, "all.rdz"))
	pin, err := os.ReadFile(filepath.Join(os.Getenv("KAMETHOD_ETC"), "golden.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if got := files["etc/kamethod/golden.pub"]; !bytes.Equal(got, pin) {
		t.Errorf("golden.pub in stage 1 is %q, want %q", got, pin)
	}
	stage2Known(t, out, files["etc/kamethod/stage2.sha256"])
	for name := range files {
		if strings.HasSuffix(name, "golden.key") {
			t.Errorf("%s: the private key is in the image", name)
		}
	}
	bb := files["bbin/bb"]
	// Names of linked functions stay in the binary (Go's line table).
	if !bytes.Contains(bb, []byte("insomniacslk/dhcp/dhcpv4/nclient4.")) {
		t.Error("no DHCP client linked into stage 1: is this check blind?")
	}
	for _, unwanted := range []string{
		"insomniacslk/dhcp/dhcpv4/server4.", "spf13/cobra.",
		"kamethod/kamethod/golden/internal/", "kamethod/kamethod/golden.", "kamethod/kamethod/builder.",
	} {
		if bytes.Contains(bb, []byte(unwanted)) {
			t.Errorf("%s is linked into stage 1", unwanted)
		}
	}
}

// stage2Known: stage 1, and a file server, have the hash of this very stage 2.
func stage2Known(t *testing.T, out string, inStage1 []byte) {
	t.Helper()
	image, err := os.ReadFile(filepath.Join(out, "rescue.sqfs"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x  rescue.sqfs\n", sha256.Sum256(image))
	if string(inStage1) != want {
		t.Errorf("stage 1 knows %q of stage 2, want %q", inStage1, want)
	}
	served, err := os.ReadFile(filepath.Join(out, "install/stage2/rescue.sqfs"))
	if err != nil || !bytes.Equal(served, image) {
		t.Errorf("install/stage2/rescue.sqfs is another: %d bytes, %v", len(served), err)
	}
	beside, err := os.ReadFile(filepath.Join(out, "install/stage2/rescue.sqfs.sha256"))
	if err != nil || string(beside) != want {
		t.Errorf("beside it stands %q, %v", beside, err)
	}
}

func unpack(t *testing.T, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := map[string][]byte{}
	for r := cpio.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// appendLine lets the node's own parser read what pxelinux will pass on.
func appendLine(t *testing.T, out string) {
	text, err := os.ReadFile(filepath.Join(out, "tftp/pxelinux.cfg/default"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nPROMPT ", "PROMPT 1\n", "\nTIMEOUT 50\n", "\nDEFAULT local\n", "\nlabel local\n    LOCALBOOT 0\n", "\nlabel kamethod\n"} {
		if !strings.Contains("\n"+string(text), want) {
			t.Errorf("pxelinux.cfg/default lacks %q:\n%s", want, text)
		}
	}
	_, line, ok := strings.Cut(string(text), "    APPEND ")
	line, _, _ = strings.Cut(line, "\n")
	p, errs := wire.ParseCmdline(line)
	if !ok || len(errs) > 0 || p.Method != "ka" || p.Network != "dhcp" || !p.KaMethod || len(p.Consoles) != 2 {
		t.Errorf("APPEND %q: %+v, %v", line, p, errs)
	}
}

// pxeBoot boots the ready tree with another default label than its own.
// QEMU's user network serves it; restrict=on keeps the guest from all else.
func pxeBoot(t *testing.T, tree string) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64 on this machine")
	}
	file := filepath.Join(tree, "pxelinux.cfg/default")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("DEFAULT local"), []byte("DEFAULT kamethod"), 1)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-device", "virtio-rng-pci", "-boot", "n", "-device", "virtio-net-pci,netdev=n",
		"-netdev", "user,id=n,restrict=on,bootfile=pxelinux.0,tftp="+tree)
	console, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	seen := readUntil(console, "lease 10.0.2.15/24")
	cancel()
	_ = c.Wait() // it was killed
	for _, want := range []string{"BOOTIF=01-52-54-00-12-34-56", "Run /init as init process", "lease 10.0.2.15/24"} {
		if !strings.Contains(seen, want) {
			t.Errorf("console lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(seen)
	}
}

// readUntil ends with the word, or with the stream.
func readUntil(r io.Reader, word string) string {
	var seen bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		seen.Write(buf[:n])
		if err != nil || bytes.Contains(seen.Bytes(), []byte(word)) {
			return seen.String()
		}
	}
}
