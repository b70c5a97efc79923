package images

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/demo/rehearsal"
)

// TestBlocks clones a machine of which two partitions come as blocks, an ext4
// and an NTFS. It takes as long as a cell of the matrix, and is played like
// one: `make vmtest`, alone by CELL=blocks.
func TestBlocks(t *testing.T) {
	if os.Getenv("VMTEST") == "" && os.Getenv("CELL") != "blocks" {
		t.Skip("make vmtest runs it: VMTEST=1 or CELL=blocks")
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	t.Parallel() // with another machine: an emulated one keeps one processor busy
	dir := t.TempDir()
	noise := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{5}).Read(noise)
	file := filepath.Join(dir, "noise")
	if err := os.WriteFile(file, noise, 0o644); err != nil {
		t.Fatal(err)
	}
	data, win := filepath.Join(dir, "data"), filepath.Join(dir, "win")
	run("truncate", "-s", "96M", data)
	run("truncate", "-s", "64M", win)
	run("mkfs.ext4", "-q", "-F", data)
	run("debugfs", "-w", "-R", "write "+file+" noise", data)
	run("mkntfs", "-q", "-F", "-f", win)
	run("ntfscp", "-f", win, file, "noise")
	uuid := run("blkid", "-p", "-s", "UUID", "-o", "value", data)
	ntfs, err := os.ReadFile(win)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(ntfs, noise[:4096]) // whole clusters, so that it is in one place
	if at < 0 || at%4096 != 0 || !bytes.Equal(ntfs[at:at+1<<20], noise[:1<<20]) {
		t.Fatalf("the NTFS has its file at %d", at)
	}
	cell := rehearsal.Recipe{Name: "blocks", Mix: rehearsal.Ext4, Stacking: rehearsal.Plain}.Cell()
	cell.Layouts["sda"] = "linux 1200\nswap 128\nextended fill\nlogical linux 96\nlogical type7 64\nlogical linux fill\n"
	cell.Files["etc/fstab"] = "/dev/sda1 / ext4 defaults 0 1\n/dev/sda7 /home ext4 defaults 0 2\n/dev/sda2 none swap sw 0 0\n"
	cell.Clone.Places[1].On = "sda7"
	cell.Wanted["sda"] = []rehearsal.Wanted{
		{Number: 1, Types: []string{"83"}, MiB: 1200}, {Number: 2, Types: []string{"82"}, MiB: 128}, {Number: 3, Types: []string{"5", "f"}},
		{Number: 5, Types: []string{"83"}, MiB: 96}, {Number: 6, Types: []string{"7"}, MiB: 64}, {Number: 7, Types: []string{"83"}},
	}
	cell.Serve = []string{"-D", "sda5=" + data, "-D", "sda6=" + win}
	sum := func(b []byte) string { return fmt.Sprintf("^%x$", sha256.Sum256(b)) }
	cell.Asked = []rehearsal.Question{
		{Ask: `mount -o ro /dev/vda5 /mnt && sha256sum < /mnt/noise | cut -c1-64`, Want: sum(noise)},
		{Ask: `blkid -p -s UUID -o value /dev/vda5 | grep -c ` + uuid, Want: `^0$`},
		{Ask: `blkid -p -s TYPE -o value /dev/vda6`, Want: `^ntfs$`},
		{Ask: fmt.Sprintf(`dd if=/dev/vda6 bs=4096 skip=%d count=256 status=none | sha256sum | cut -c1-64`, at/4096), Want: sum(noise[:1<<20])},
		{Ask: `test $(od -An -tu4 -j28 -N4 /dev/vda6) = $(cat /sys/class/block/vda6/start) && echo same`, Want: `^same$`},
	}
	playClone(t, rehearsal.Config{Nodes: 1, Cell: cell, Timeout: 40 * time.Minute})
}
