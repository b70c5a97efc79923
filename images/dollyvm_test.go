package images

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/vmlab"
)

// dolly starts golden-serve dolly for machines 1 and 2, which are called node2
// and node3, as in the manual, and are leased 10.77.0.32 and 10.77.0.33.
func (h *hall) dolly(cfg string, args ...string) {
	h.Helper()
	bin, err := programs()
	if err != nil {
		h.Fatal(err)
	}
	writeAll(h.T, h.dir, map[string]string{"dolly.cfg": cfg, "fixed": "52:54:00:77:00:01 10.77.0.32 node2\n52:54:00:77:00:02 10.77.0.33 node3\n"})
	args = append([]string{filepath.Join(bin, "golden-serve"), "dolly", "-s", "-v", "-f", filepath.Join(h.dir, "dolly.cfg"), "--interface", vmlab.Bridge, "--dhcp", "full",
		"--fixed", filepath.Join(h.dir, "fixed"), "--images", h.images, "--quiet", "60s", "--yes", "--linger", "0s", "--report", filepath.Join(h.dir, "report.json"),
		"--console", "console=ttyS0,115200 " + vmlab.KernelWords}, args...)
	h.serve, err = h.lab.Start(vmlab.ProcessSpec{Name: "golden-serve", Args: args, Env: []string{"KAMETHOD_STATE=" + filepath.Join(h.dir, "state")}})
	if err != nil {
		h.Fatal(err)
	}
}

func (h *hall) command(name string, args ...string) []byte {
	h.Helper()
	c := exec.Command(name, args...)
	c.Dir = h.dir
	out, err := c.CombinedOutput()
	if err != nil {
		h.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return out
}

// A whole disk goes to two machines that boot by PXE, by Dolly's file; then
// another file's, with Dolly+'s three kinds of copies.
func TestDollyMachines(t *testing.T) {
	if os.Getenv("VMTEST") == "" && os.Getenv("CELL") != "dolly" {
		t.Skip("make vmtest runs it: VMTEST=1 or CELL=dolly")
	}
	t.Parallel() // with another machine: an emulated one keeps one processor busy
	const who = "server node1\nfirstclient node2\nlastclient node3\nclients 2\nnode2\nnode3\nendconfig\n"
	t.Run("disk", func(t *testing.T) {
		h := newHall(t, 25*time.Minute)
		golden := h.disk("golden")
		disks := []vmlab.Disk{{File: filepath.Join(h.dir, "disk1"), Size: 96 << 20}, {File: filepath.Join(h.dir, "disk2"), Size: 200 << 20}}
		h.dolly("infile " + golden.File + "\noutfile /dev/sda\n" + who) // their only disk is called vda
		for i, d := range disks {
			h.power(i+1, 0, d)
		}
		h.wait()
		want, err := os.ReadFile(golden.File)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range disks {
			wantBytes(t, d.File, want)
		}
	})
	t.Run("plus", func(t *testing.T) {
		h := newHall(t, 25*time.Minute)
		image, file := filepath.Join(h.dir, "disk.img"), bytes.Repeat([]byte("what was in file.gz\n"), 50_000)
		writeAll(t, h.dir, map[string]string{"data": string(file), "tree/grub/grub.conf": "title linux\n"})
		h.command("gzip", "data")
		h.command("tar", "-C", "tree", "-cZf", "boot.tar.Z", ".")
		h.command("mkfs.ext4", "-q", "-F", "boot", "64M")
		h.command("truncate", "-s", "80M", image)
		table := exec.Command("sfdisk", "-q", image)
		table.Stdin = strings.NewReader("label: dos\nstart=2048,size=131072,type=83\n")
		if out, err := table.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v: %s", err, out)
		}
		h.command("dd", "if=boot", "of="+image, "bs=1M", "seek=1", "conv=notrunc", "status=none")
		h.dolly(fmt.Sprintf("iofiles 3\n%s > /dev/vda\n%s/data.gz>>/boot/data\n%s/boot.tar.Z >> /boot/tree\n", image, h.dir, h.dir)+who, "--mount", "vda1=/boot")
		for i := range 2 {
			h.power(i+1, 0, vmlab.Disk{File: filepath.Join(h.dir, fmt.Sprintf("disk%d", i+1)), Size: 80 << 20})
		}
		h.wait()
		for i := range 2 {
			part := fmt.Sprintf("part%d", i+1)
			h.command("dd", fmt.Sprintf("if=disk%d", i+1), "of="+part, "bs=1M", "skip=1", "count=64", "status=none")
			h.command("e2fsck", "-f", "-n", part)
			for name, want := range map[string]string{"/data": string(file), "/tree/grub/grub.conf": "title linux\n"} {
				c := exec.Command("debugfs", "-R", "cat "+name, filepath.Join(h.dir, part))
				if got, err := c.Output(); err != nil || string(got) != want {
					t.Errorf("machine %d: %s: %d bytes, %v", i+1, name, len(got), err)
				}
			}
		}
	})
}
