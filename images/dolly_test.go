package images

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// stage2Programs is what a node runs in stage 2, beside programs.
var stage2Programs = sync.OnceValues(func() (string, error) {
	dir, err := programs()
	if err != nil {
		return "", err
	}
	c := exec.Command("go", "build", "-o", dir+"/", "../cmds/node/stage2/clone")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return filepath.Join(dir, "clone"), nil
})

// asNode makes a folder the root of a machine in stage 2, with the device
// /dev/sda of these numbers and no other, and runs a program in it. ip netns
// exec has made a mount namespace of its own.
const asNode = `set -e
R=$1 MAJOR=$2 MINOR=$3; shift 3
mount -t tmpfs none $R/sys; mkdir $R/sys/block
mount -t proc none $R/proc
mount --bind $R/proc/sys $R/proc/sys; mount -o remount,bind,ro $R/proc/sys
mount -t tmpfs none $R/dev; mknod $R/dev/null c 1 3; mknod $R/dev/urandom c 1 9
[ $MAJOR = 0 ] || mknod $R/dev/sda b $MAJOR $MINOR
exec chroot $R "$@"`

// stage2 is a machine in stage 2 that got it elsewhere.
func (r *room) stage2(host int, mac, disk, method string) (*program, string) {
	r.t.Helper()
	clone, err := stage2Programs()
	if err != nil {
		r.t.Fatal(err)
	}
	root := filepath.Join(r.dir, fmt.Sprintf("node%d", host+1))
	for _, d := range []string{"sys", "proc", "dev", "tmp", "run/kamethod", "mnt/disk"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	pin, err := os.ReadFile(filepath.Join(r.keys, "golden.pub"))
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := os.ReadFile(clone)
	if err != nil {
		r.t.Fatal(err)
	}
	state := fmt.Sprintf(`{"places":["10.78.0.1"],"session":"kamethod","interface":"eth0","mac":%q,"lease":{},"key_file":"/run/kamethod/node.key","pin_file":"/run/kamethod/golden.pub","method":"nfs","replication":%q,"dolly_timeout":90000000000}`, mac, method)
	for name, text := range map[string][]byte{"run/kamethod/golden.pub": pin, "run/kamethod/state.json": []byte(state), "clone": b} {
		if err := os.WriteFile(filepath.Join(root, name), text, 0o700); err != nil {
			r.t.Fatal(err)
		}
	}
	major, minor := uint32(0), uint32(0)
	if disk != "" {
		var st unix.Stat_t
		if err := unix.Stat(disk, &st); err != nil {
			r.t.Fatal(err)
		}
		major, minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return r.startHost(host, "sh", "-c", asNode, "sh", root, fmt.Sprint(major), fmt.Sprint(minor), "/clone"), root
}

// loopDevice is a disk of so many bytes.
func loopDevice(t *testing.T, size int64) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Skipf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	held, err := os.Open(dev)
	exec.Command("losetup", "--detach", dev).Run() // it stays until the last one has closed it, also when we are killed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	return dev
}

func noise(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func wantBytes(t *testing.T, path string, want []byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s isn't what was sent: %v", path, err)
	}
}

// standIns are what golden-serve wants to have, and no machine here loads.
func (r *room) standIns() {
	r.t.Helper()
	writeAll(r.t, r.dir, map[string]string{
		"images/rescue.sqfs": "not really", "images/tftp/pxelinux.0": "x", "images/tftp/ldlinux.c32": "x",
		"images/tftp/images/vmlinuz": "x", "images/tftp/images/all.rdz": "x",
	})
}

// nodeState is how a node came out, by the report.
func (r *room) nodeStates() map[string]string {
	r.t.Helper()
	var rep struct {
		Nodes []struct{ Address, State, Error string }
	}
	b, err := os.ReadFile(filepath.Join(r.dir, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]string{}
	for _, n := range rep.Nodes {
		out[n.Address] = strings.TrimSpace(n.State + " " + n.Error)
	}
	return out
}

const mib = 1 << 20

// A whole disk goes to the disks of the machines that dolly.cfg names, by
// Dolly's own command line. One whose disk is too small is bypassed, and one
// that isn't named keeps what it has.
func TestDolly(t *testing.T) {
	r := newRoom(t, 4)
	r.standIns()
	const size = 9*mib + 512*7
	want := noise(t, size)
	golden := loopDevice(t, size)
	if err := os.WriteFile(golden, want, 0); err != nil {
		t.Fatal(err)
	}
	disks := []string{loopDevice(t, size), loopDevice(t, size+mib), loopDevice(t, size-512), loopDevice(t, size)}
	writeAll(t, r.dir, map[string]string{"dolly.cfg": "infile " + golden + "\noutfile /dev/sda\nserver golden\nfirstclient 10.78.0.11\nlastclient 10.78.0.13\n" +
		"clients 3\n10.78.0.11\n10.78.0.12\n10.78.0.13\nendconfig\n"})
	g := r.serve("dolly", "-s", "-v", "-f", "dolly.cfg", "--dhcp", "off", "--yes", "--report", "report.json", "--linger", "0s")
	stranger, _ := r.stage2(3, "52:54:00:00:00:14", disks[3], "dollymethod")
	stranger.expect(t, "is not named in dolly.cfg")
	stranger.wantExit(t, 1)
	whole, _ := r.stage2(0, "52:54:00:00:00:11", disks[0], "kamethod")
	whole.expect(t, "boot it with dollymethod")
	whole.wantExit(t, 1)
	var nodes []*program
	for i := range 3 {
		p, _ := r.stage2(i, fmt.Sprintf("52:54:00:00:00:1%d", i+1), disks[i], "dollymethod")
		nodes = append(nodes, p)
	}
	g.wantExit(t, 1)
	nodes[0].wantExit(t, 0)
	nodes[1].wantExit(t, 0)
	nodes[2].wantExit(t, 1)
	wantBytes(t, disks[0], want)
	wantBytes(t, disks[1], want)
	wantBytes(t, disks[2], make([]byte, size-512))
	wantBytes(t, disks[3], make([]byte, size))
	states := r.nodeStates()
	for addr, text := range map[string]string{"10.78.0.11": "released", "10.78.0.12": "released", "10.78.0.13": fmt.Sprintf("/dev/sda has %d bytes, %s has %d", size-512, golden, size)} {
		if !strings.Contains(states[addr], text) {
			t.Errorf("%s: %q, want %q", addr, states[addr], text)
		}
	}
	if len(states) != 3 {
		t.Errorf("%q", states)
	}
}

// The Dolly+ file of the manual, with its infiles where this test has them: one
// as it is, one unpacked by its name, an archive into a folder; and a fourth, a
// packed image to a disk. The machines are known by a nodes file.
func TestDollyPlus(t *testing.T) {
	for _, p := range []string{"compress", "tar", "gzip"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s (scripts/setup.sh installs it)", p)
		}
	}
	r := newRoom(t, 2)
	r.standIns()
	text, err := os.ReadFile("../golden/internal/dollyfile/testdata/003-dolly-plus.cfg")
	if err != nil {
		t.Fatal(err)
	}
	part, image, file := noise(t, 3*mib+1), noise(t, 5*mib), bytes.Repeat([]byte("what was in file.gz\n"), 100_000)
	writeAll(t, r.dir, map[string]string{
		"hda1": string(part), "data/file": string(file), "image": string(image),
		"tree/grub/grub.conf": "title linux\n", "tree/vmlinuz": strings.Repeat("kernel", 100_000),
		"nodes.yaml": "- mac: 52:54:00:00:00:16\n  name: max6\n- mac: 52:54:00:00:00:17\n  name: max7.paris\n- mac: 52:54:00:00:00:99\n  name: other\n",
	})
	for _, args := range [][]string{{"gzip", "data/file"}, {"gzip", "image"}, {"tar", "-C", "tree", "-cZf", "boot.tar.Z", "."}} {
		c := exec.Command(args[0], args[1:]...)
		c.Dir = r.dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	cfg := strings.NewReplacer("iofiles 3\n/dev/hda1", "iofiles 4\nimage.gz>>/dev/sda\nhda1", "/data/file.gz", "data/file.gz", "clients 3", "clients 2", "max8.paris\nend", "end").Replace(string(text))
	writeAll(t, r.dir, map[string]string{"dolly.cfg": cfg})
	g := r.serve("dolly", "-v", "-f", "dolly.cfg", "--dhcp", "off", "--nodes-file", "nodes.yaml", "--report", "report.json", "--linger", "0s")
	var roots []string
	var nodes []*program
	disks := []string{loopDevice(t, 5*mib), loopDevice(t, 6*mib)}
	for i := range 2 {
		p, root := r.stage2(i, fmt.Sprintf("52:54:00:00:00:1%d", i+6), disks[i], "dollyCmethod")
		nodes, roots = append(nodes, p), append(roots, root)
	}
	g.wantExit(t, 0)
	for i, p := range nodes {
		p.wantExit(t, 0)
		p.expect(t, "I am a dolly+ client")
		p.expect(t, "unpacking boot.tar.Z to /boot")
		wantBytes(t, filepath.Join(roots[i], "tmp/dev/hda1"), part)
		wantBytes(t, filepath.Join(roots[i], "data/file"), file)
		wantBytes(t, filepath.Join(roots[i], "boot/grub/grub.conf"), []byte("title linux\n"))
		wantBytes(t, disks[i], image)
	}
	if !strings.Contains(g.out.String(), "is in the nodes' memory, and gone when they boot") {
		t.Errorf("no note that files are in memory only:\n%s", g.out)
	}
}

// What golden-serve dolly refuses before anything is started: exit status 2,
// and file, line and word.
func TestDollyRefusals(t *testing.T) {
	r := newRoom(t, 0)
	r.standIns()
	busy := loopDevice(t, mib)
	held, err := os.OpenFile(busy, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	writeAll(t, r.dir, map[string]string{"a.img": "image", "a.gz": "no gzip", "evil/x": "x", "empty": ""})
	for _, args := range [][]string{{"tar", "-C", "evil", "-cPf", "up.tar", "../a.img"}, {"ln", "-s", "/etc/passwd", "evil/link"}, {"tar", "-C", "evil", "-cf", "link.tar", "."}} {
		c := exec.Command(args[0], args[1:]...)
		c.Dir = r.dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	who := "server s\nfirstclient 10.78.0.11\nlastclient 10.78.0.11\nclients 1\n10.78.0.11\nendconfig\n"
	dolly := func(in, out string) string { return "infile " + in + "\noutfile " + out + "\n" + who }
	plus := func(lines ...string) string {
		return fmt.Sprintf("iofiles %d\n%s\n%s", len(lines), strings.Join(lines, "\n"), who)
	}
	for _, c := range []struct{ name, cfg, want string }{
		{"no end", strings.TrimSuffix(dolly("a.img", "/dev/sda"), "endconfig\n"), `dolly.cfg:7: "endconfig": is missing`},
		{"no infile", dolly("gone.img", "/dev/sda"), `dolly.cfg:2: "gone.img": open gone.img: no such file`},
		{"a folder", dolly("evil", "/dev/sda"), `dolly.cfg:2: "evil"`},
		{"empty", dolly("empty", "/dev/sda"), `dolly.cfg:2: "empty": is empty`},
		{"in use", dolly(busy, "/dev/sda"), `is in use`},
		{"no gzip", dolly("a.gz", "/dev/sda"), `dolly.cfg:2: "a.gz": unpack`},
		{"climbs out", plus("up.tar >> /boot"), `dolly.cfg:2: "up.tar": name "../a.img" has ..: leaves the folder`},
		{"link climbs out", plus("link.tar >> /boot"), `dolly.cfg:2: "link.tar": "./link": symbolic link to "/etc/passwd" leaves the folder`},
		{"unknown form", plus("a.img >> /boot"), `dolly.cfg:2: "a.img": >> unpacks by the infile's name`},
		{"a disk and its part", plus("a.img > /dev/sda", "a.img > /dev/sda5"), `dolly.cfg:3: "/dev/sda5": is a part of /dev/sda, which line 2 writes`},
		{"golden itself", strings.ReplaceAll(dolly("a.img", "/dev/sda"), "10.78.0.11", "10.78.0.1"), `dolly.cfg:7: "10.78.0.1": is this machine itself`},
		{"stage 2 and more", plus("a.img > /dev/ram3", "a.img > /dev/sda"), `dolly.cfg:2: "/dev/ram3": stage 2 is sent by itself`},
	} {
		writeAll(t, r.dir, map[string]string{"dolly.cfg": c.cfg})
		p := r.start(r.name, r.golden, "golden-serve", "dolly", "-f", "dolly.cfg", "--dhcp", "off", "--yes", "--wait", "1s")
		p.wantExit(t, 2)
		if !strings.Contains(p.out.String(), c.want) {
			t.Errorf("%s: want %q in:\n%s", c.name, c.want, p.out)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "give -f dolly.cfg"}, {[]string{"-f", "nowhere.cfg"}, "nowhere.cfg"}, {[]string{"-f", "dolly.cfg", "--mount", "boot"}, "--mount boot"},
	} {
		p := r.start(r.name, r.golden, "golden-serve", append([]string{"dolly"}, c.args...)...)
		p.wantExit(t, 2)
		if !strings.Contains(p.out.String(), c.want) {
			t.Errorf("%v: want %q in:\n%s", c.args, c.want, p.out)
		}
	}
	// With --force it begins, and nobody comes.
	writeAll(t, r.dir, map[string]string{"dolly.cfg": dolly(busy, "/dev/sda")})
	p := r.start(r.name, r.golden, "golden-serve", "dolly", "-f", "dolly.cfg", "--dhcp", "off", "--yes", "--wait", "1s", "--force")
	p.wantExit(t, 2)
	if !strings.Contains(p.out.String(), "too few nodes came") {
		t.Errorf("--force: %s", p.out)
	}
}
