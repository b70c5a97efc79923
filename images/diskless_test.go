package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/vmlab"
)

// hall is a lab with golden-serve run in it, and machines that run in their
// memory what it sends.
//
//	golden-serve run ── br0 ─┬─PXE─▶ node 1, runs it    its disk is what it was
//	                         └─PXE─▶ node 2, runs it
type hall struct {
	*testing.T
	ctx    context.Context
	lab    *vmlab.Lab
	dir    string
	serve  *vmlab.Process
	known  string
	images string
}

// newHall needs root, and the images.
func newHall(t *testing.T, limit time.Duration) *hall {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	h := &hall{T: t, dir: t.TempDir(), images: os.Getenv("KAMETHOD_IMAGES")}
	if h.images == "" {
		top, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		h.images = filepath.Join(top, "images")
	}
	if _, err := os.Stat(filepath.Join(h.images, "all.rdz")); err != nil {
		t.Skipf("no image to boot: %v; run make image first", err)
	}
	h.known = filepath.Join(h.dir, "known_hosts")
	var cancel context.CancelFunc
	h.ctx, cancel = context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	var err error
	if h.lab, err = vmlab.New(h.ctx, vmlab.Config{Dir: filepath.Join(h.dir, "lab"), Accel: os.Getenv("ACCEL")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.lab.Close() })
	return h
}

// run starts golden-serve run.
func (h *hall) run(path string, args ...string) {
	h.Helper()
	bin, err := programs()
	if err != nil {
		h.Fatal(err)
	}
	args = append([]string{filepath.Join(bin, "golden-serve"), "run", "--interface", vmlab.Bridge, "--dhcp", "full", "--images", h.images,
		"--quiet", "60s", "--known-hosts", h.known, "--console", "console=ttyS0,115200 " + vmlab.KernelWords}, args...)
	h.serve, err = h.lab.Start(vmlab.ProcessSpec{Name: "golden-serve", Args: append(args, path), Env: []string{"KAMETHOD_STATE=" + filepath.Join(h.dir, "state")}})
	if err != nil {
		h.Fatal(err)
	}
}

// power switches machine n on.
func (h *hall) power(n, memory int, disks ...vmlab.Disk) *vmlab.Machine {
	h.Helper()
	m, err := h.lab.Power(h.ctx, vmlab.Spec{Name: fmt.Sprintf("node%d", n), MAC: fmt.Sprintf("52:54:00:77:00:%02x", n), Memory: memory, More: disks})
	if err != nil {
		h.Fatal(err)
	}
	return m
}

// expect waits for a line on a machine's console.
func (h *hall) expect(m *vmlab.Machine, re string) []string {
	h.Helper()
	got, err := m.Console.Expect(h.ctx, regexp.MustCompile(re))
	if err != nil {
		log, _ := os.ReadFile(h.serve.Log)
		h.Fatalf("%s: %v\nconsole:\n%s\ngolden-serve:\n%s", m.Name, err, m.Console.Tail(60), log)
	}
	return got
}

// wait waits for golden-serve's end.
func (h *hall) wait() string {
	h.Helper()
	err := h.serve.Wait(h.ctx)
	log, _ := os.ReadFile(h.serve.Log)
	if err != nil {
		h.Fatalf("golden-serve run: %v\n%s", err, log)
	}
	return string(log)
}

// disk is a disk image with something on it, and a partition that a machine
// could swap on.
func (h *hall) disk(name string) vmlab.Disk {
	h.Helper()
	path := filepath.Join(h.dir, name)
	f, err := os.Create(path)
	if err != nil {
		h.Fatal(err)
	}
	defer f.Close()
	seed, err := os.Open("/dev/urandom")
	if err != nil {
		h.Fatal(err)
	}
	defer seed.Close()
	if _, err := io.CopyN(f, seed, 96<<20); err != nil {
		h.Fatal(err)
	}
	table := exec.Command("sfdisk", "-q", "--wipe", "never", "--wipe-partitions", "never", path)
	table.Stdin = strings.NewReader("label: dos\nstart=2048,size=65536,type=83\nstart=67584,size=65536,type=82\n")
	if out, err := table.CombinedOutput(); err != nil {
		h.Fatalf("sfdisk: %v: %s", err, out)
	}
	area := filepath.Join(h.dir, name+".swap")
	if err := os.WriteFile(area, nil, 0o600); err != nil {
		h.Fatal(err)
	}
	if err := os.Truncate(area, areaSize); err != nil {
		h.Fatal(err)
	}
	if out, err := exec.Command("mkswap", area).CombinedOutput(); err != nil {
		h.Fatalf("mkswap: %v: %s", err, out)
	}
	b, err := os.ReadFile(area)
	if err != nil {
		h.Fatal(err)
	}
	if _, err := f.WriteAt(b[:4096], areaAt); err != nil {
		h.Fatal(err)
	}
	return vmlab.Disk{File: path}
}

// The swap area of disk, in bytes.
const (
	areaAt   = 67584 * 512
	areaSize = 65536 * 512
)

// sum is of all that is on a disk; swapped: but for what was swapped there.
func (h *hall) sum(d vmlab.Disk, swapped bool) string {
	h.Helper()
	f, err := os.Open(d.File)
	if err != nil {
		h.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	parts := []io.Reader{f}
	if swapped { // the first page stays: it says that this is a swap area
		parts = []io.Reader{io.NewSectionReader(f, 0, areaAt+4096), io.NewSectionReader(f, areaAt+areaSize, 1<<40)}
	}
	for _, part := range parts {
		if _, err := io.Copy(sum, part); err != nil {
			h.Fatal(err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// busyboxRoot is the smallest root that says who it is.
func (h *hall) busyboxRoot() string {
	h.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		h.Skipf("%v: package busybox-static", err)
	}
	root := filepath.Join(h.dir, "root")
	for name, text := range map[string]string{
		"bin/busybox": string(busybox),
		"sbin/init": `#!/bin/busybox sh
busybox=/bin/busybox
for f in hostname node_id kerrighed_nodes fstab; do
	$busybox sed "s/^/RUN $f: /" /etc/$f
done
echo "RUN kernel: $($busybox hostname) pid $$"
echo "RUN root: $($busybox awk '$2 == "/" && $1 != "rootfs" { print $3 }' /proc/mounts)"
echo "RUN address: $($busybox ip -o -4 addr show eth0 | $busybox awk '{ print $4 }')"
echo "RUN secrets: $($busybox find /run /etc -name '*.key' -o -name '*.pub' -o -name state.json)"
echo written >/written && echo "RUN writes: $($busybox cat /written)"
echo "RUN end"
while :; do $busybox sleep 1000; done
`,
		"etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", "etc/hostname": "golden\n", "proc/x": "", "dev/x": "", "sys/x": "", "run/x": "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			h.Fatal(err)
		}
		if strings.HasSuffix(name, "/x") {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			h.Fatal(err)
		}
	}
	return root
}

// A machine with a disk boots by PXE, gets a squashfs of busybox alone, and
// runs it as itself; the disk is what it was.
func TestRunInMemory(t *testing.T) {
	h := newHall(t, 30*time.Minute) // on a busy host; alone it takes one or two
	root := h.busyboxRoot()
	image := filepath.Join(h.dir, "root.sqfs")
	if out, err := exec.Command("mksquashfs", root, image, "-quiet", "-no-progress").CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v: %s", err, out)
	}
	nodes := filepath.Join(h.dir, "nodes.yaml")
	writeAll(t, h.dir, map[string]string{"nodes.yaml": "- mac: 52:54:00:77:00:01\n  name: node31\n  address: 10.77.0.31/24\n  node_id: 31\n" +
		"- mac: 52:54:00:77:00:02\n  name: node32\n  address: 10.77.0.32/24\n  node_id: 32\n"})
	disk := h.disk("disk")
	before := h.sum(disk, false)
	h.run(image, "-n", "1", "--nodes-file", nodes)
	m := h.power(1, 512, disk)
	h.expect(m, `running /sbin/init, from memory`)
	h.expect(m, `^RUN end`)
	for _, want := range []string{
		"RUN hostname: node31\n", "RUN node_id: 31\n", "RUN kerrighed_nodes: session=1\n", "RUN kerrighed_nodes: nbmin=2\n",
		"RUN kerrighed_nodes: node31:eth0\n", "RUN kerrighed_nodes: node32:eth0\n", "RUN fstab: # diskless: /dev/sda1", "RUN kernel: node31 pid 1\n",
		"RUN root: overlay\n", "RUN address: 10.77.0.31/24\n", "RUN secrets: \n", "RUN writes: written\n",
	} {
		if !strings.Contains(m.Console.Text(), want) {
			t.Errorf("no %q on the console:\n%s", want, m.Console.Tail(60))
		}
	}
	if log := h.wait(); !strings.Contains(log, "node 31 runs as node31 at 10.77.0.31") {
		t.Errorf("golden-serve run says:\n%s", log)
	}
	m.Kill()
	if h.sum(disk, false) != before {
		t.Error("the machine's disk was written to")
	}
}

// madeImage has scripts/diskless.sh make an image, with a key that opens it.
func (h *hall) madeImage(format string) (image, key string) {
	h.Helper()
	key = filepath.Join(h.dir, "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		h.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	top, err := filepath.Abs("..")
	if err != nil {
		h.Fatal(err)
	}
	c := exec.CommandContext(h.ctx, filepath.Join(top, "scripts/diskless.sh"))
	c.Env = append(os.Environ(), "PACKAGES=", "OUT="+h.dir, "IMAGES="+h.images, "KEYS="+key+".pub", "FORMAT="+format)
	if out, err := c.CombinedOutput(); err != nil {
		h.Fatalf("scripts/diskless.sh: %v\n%s", err, out)
	}
	return filepath.Join(h.dir, map[string]string{"sqfs": "diskless.sqfs", "ext4": "diskless.img", "tree": "diskless.tree"}[format]), key
}

// ssh runs a command on a machine, whose host key golden has to know, until
// its server is up.
func (h *hall) ssh(key, name, address, command string) string {
	h.Helper()
	var last string
	for n := 0; ; n++ {
		p, err := h.lab.Start(vmlab.ProcessSpec{Name: fmt.Sprintf("ssh-%s-%d", name, n), Args: []string{
			"ssh", "-i", key, "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=" + h.known, "-o", "StrictHostKeyChecking=yes",
			"-o", "HostKeyAlias=" + name, "-o", "ConnectTimeout=60", "-F", "none", "root@" + address, command,
		}})
		if err != nil {
			h.Fatal(err)
		}
		err = p.Wait(h.ctx)
		out, _ := os.ReadFile(p.Log)
		if last = string(out); err == nil {
			return last
		}
		select {
		case <-h.ctx.Done():
			h.Fatalf("ssh to %s at %s: %v: %s", name, address, err, last)
		case <-time.After(3 * time.Second):
		}
	}
}

// Machines with disks run a Debian that scripts/diskless.sh made, each as
// itself, by each of the three ways that it can come; the disks are what they
// were, unless swapping is asked for. `make vmtest CELL=diskless`.
func TestDiskless(t *testing.T) {
	if os.Getenv("VMTEST") == "" {
		t.Skip("make vmtest runs it: VMTEST=1")
	}
	for _, tt := range []struct {
		format   string
		machines int
		root     string // what / is
		swap     bool
	}{{"sqfs", 2, "overlay", false}, {"ext4", 1, "overlay", true}, {"tree", 1, "tmpfs", false}} {
		t.Run(tt.format, func(t *testing.T) { playDiskless(t, tt.format, tt.machines, tt.root, tt.swap) })
	}
}

func playDiskless(t *testing.T, format string, machines int, root string, swap bool) {
	h := newHall(t, time.Hour)
	image, key := h.madeImage(format)
	args := []string{"-n", fmt.Sprint(machines)}
	if swap {
		args = append(args, "--swap")
	}
	h.run(image, args...)
	var nodes []*vmlab.Machine
	var disks []vmlab.Disk
	var before []string
	for n := range machines {
		disks = append(disks, h.disk(fmt.Sprintf("disk%d", n+1)))
		before = append(before, h.sum(disks[n], swap))
		nodes = append(nodes, h.power(n+1, 1024, disks[n]))
	}
	log := h.wait() // golden has sent, knows the keys, and is gone
	seen := map[string]bool{}
	for _, m := range nodes {
		h.expect(m, `running /sbin/init, from memory`)
		who := regexp.MustCompile(`node (\d+) runs as (node\d+) at (\S+)`).FindAllStringSubmatch(log, -1)
		if len(who) != machines {
			t.Fatalf("golden-serve run says:\n%s", log)
		}
		w := who[len(seen)/3]
		said := h.ssh(key, w[2], w[3], "hostname; cat /etc/node_id /etc/machine-id; stat -f -c %T /; cat /proc/swaps /etc/kerrighed_nodes; "+
			"ls /sys/block; cat /etc/ssh/ssh_host_ed25519_key.pub; systemctl is-system-running --wait; systemctl --failed --no-legend; free -m; ip -o addr; cat /proc/mounts")
		t.Logf("%s at %s:\n%s", w[2], w[3], said)
		line := strings.Split(said, "\n")
		if len(line) < 5 || line[0] != w[2] || line[1] != w[1] || line[3] != map[string]string{"overlay": "overlayfs", "tmpfs": "tmpfs"}[root] {
			t.Errorf("not who it should be, or not where")
		}
		for _, own := range []string{line[0], line[2], hostKey(said)} {
			if seen[own] {
				t.Errorf("two machines have the same: %s", own)
			}
			seen[own] = true
		}
		for _, want := range []string{"\nvda\n", "nbmin=" + fmt.Sprint(machines) + "\n", w[2] + ":eth0\n"} {
			if !strings.Contains(said, want) {
				t.Errorf("%s doesn't say %q", w[2], want)
			}
		}
		if got := strings.Contains(said, "/dev/vda2"); got != swap {
			t.Errorf("swaps on its own disk: %v, want %v", got, swap)
		}
		if strings.Contains(said, " failed ") {
			t.Errorf("units failed on %s", w[2])
		}
	}
	for i, m := range nodes {
		m.Kill()
		if h.sum(disks[i], swap) != before[i] {
			t.Errorf("the disk of %s was written to", m.Name)
		}
	}
}

func hostKey(said string) string {
	if m := regexp.MustCompile(`ssh-ed25519 (\S+)`).FindStringSubmatch(said); m != nil {
		return m[1]
	}
	return "no key"
}

// What is asked for wrongly is refused with the word that is wrong, before
// anything is made.
func TestDisklessImageRefuses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a root file system")
	}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeAll(t, dir, map[string]string{"nokeys": "ssh-rsa is not a key\n"})
	for _, tt := range []struct{ set, want string }{
		{"PACKAGES=htop $(id)", `"$(id)" is no package's name`},
		{"PACKAGES=--force-yes", `"--force-yes" is no package's name`},
		{"KEYS=" + filepath.Join(dir, "none"), "no such file"},
		{"KEYS=" + filepath.Join(dir, "nokeys"), "no public keys"},
		{"FORMAT=iso", "must be sqfs, ext4 or tree"},
		{"MODULES=few", "must be some, all or none"},
		{"IMAGES=" + filepath.Join(dir, "none"), "run make image first"},
	} {
		c := exec.CommandContext(t.Context(), filepath.Join(top, "scripts/diskless.sh"))
		made := filepath.Join(dir, "made")
		c.Env = append(os.Environ(), "PACKAGES=", "KEYS=", "OUT="+made, "DISKLESS_CACHE="+made, tt.set)
		out, err := c.CombinedOutput()
		if c.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v, want exit status 2 and %q:\n%s", tt.set, err, tt.want, out)
		}
		if _, err := os.Stat(made); err == nil {
			t.Errorf("%s: something was made", tt.set)
		}
	}
}
