package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDesc: the verb prints what -p takes.
func TestDesc(t *testing.T) {
	if _, err := exec.LookPath("sfdisk"); err != nil {
		t.Skip("sfdisk is not installed")
	}
	file := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 1<<30); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sfdisk", "--quiet", file)
	c.Stdin = strings.NewReader("label: dos\nsize=100MiB, type=82\nsize=200MiB, type=83, bootable\ntype=5\nsize=300MiB, type=83\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := newCommand()
		cmd.SetArgs(append([]string{"desc"}, args...))
		cmd.SetOut(&out)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	got, err := run(file)
	if want := "swap 100\nlinux 200\nextended 723\nlogical linux 300\n"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	got, err = run("--yaml", file)
	want := `disks:
  sda:
    table: mbr
    partitions:
      - {type: swap, size: 100M}
      - {type: linux, size: 200M, boot: yes}
      - {type: extended, size: 723M}
      - {type: logical linux, size: 300M}
`
	if err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if _, err := run(); err == nil || !strings.Contains(err.Error(), "want a disk") {
		t.Errorf("without a disk: %v", err)
	}
	if _, err := run("/dev/null"); err == nil {
		t.Error("/dev/null has a desc")
	}
}
