//go:build !race

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const serverAt = "10.77.0.1"

// imageOf is a stage 2 that was built with the stage 1 that is booted.
func imageOf(t *testing.T, initrd string) string {
	t.Helper()
	img := filepath.Join(filepath.Dir(initrd), "install/stage2/rescue.sqfs")
	if _, err := os.Stat(img); err != nil {
		t.Skipf("no stage 2 to give out: %v; run make image first", err)
	}
	return img
}

// served is a server's folder with a stage 2 in it as the manual says.
func served(t *testing.T, img, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	to := filepath.Join(dir, "cs4/install/stage2", name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	return dir
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s isn't installed", p)
		}
	}
}

// inside starts a program in the network namespace, with mounts and processes
// of its own, so that all of it ends with the test.
func inside(t *testing.T, ns string, log *os.File, args ...string) {
	t.Helper()
	start(t, log, "ip", append([]string{
		"netns", "exec", ns, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL",
	}, args...)...)
}

func httpd(t *testing.T, ns, dir string) {
	needs(t, "busybox")
	inside(t, ns, nil, "busybox", "httpd", "-f", "-p", serverAt+":80", "-h", dir)
}

func vsftpd(t *testing.T, ns, dir string) {
	needs(t, "vsftpd")
	conf := filepath.Join(t.TempDir(), "vsftpd.conf")
	text := "listen=YES\nlisten_address=" + serverAt + "\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\nanon_root=" + dir +
		"\nsecure_chroot_dir=" + t.TempDir() + "\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\nxferlog_enable=NO\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// As the first process of its own it would die of a child that isn't its.
	inside(t, ns, nil, "sh", "-c", `vsftpd "$1" & wait`, "sh", conf)
}

// ganeshaSetup gives the server what it wants to write to, and the files on a
// file system that has handles. Its arguments: the configuration, the folder,
// the log.
const ganeshaSetup = `set -e
ip link set lo up
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/nfs
mkdir -p /run/ganesha /var/lib/nfs/ganesha
mount -t tmpfs tmpfs /mnt
truncate -s 256M /mnt/disk.img
mke2fs -q -t ext4 -d "$2" /mnt/disk.img
mkdir /mnt/files
mount -o loop,ro /mnt/disk.img /mnt/files
rpcbind -w
exec ganesha.nfsd -F -f "$1" -L "$3" -p /run/ganesha.pid`

// ganesha serves NFS of one version.
func ganesha(t *testing.T, ns, dir string, version int) {
	needs(t, "ganesha.nfsd", "rpcbind", "mke2fs")
	tmp := t.TempDir()
	conf, log := filepath.Join(tmp, "ganesha.conf"), filepath.Join(tmp, "ganesha.log")
	text := fmt.Sprintf(`NFS_CORE_PARAM { Protocols = %d; Enable_NLM = false; Enable_RQUOTA = false; Mount_Path_Pseudo = true; }
NFSV4 { Graceless = true; RecoveryBackend = "fs"; }
EXPORT { Export_Id = 1; Path = "/mnt/files/cs4"; Pseudo = "/cs4"; Access_Type = RO; Squash = No_Root_Squash; SecType = "sys"; Transports = "TCP"; FSAL { Name = VFS; } }
`, version)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(tmp, "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	t.Cleanup(func() {
		if t.Failed() {
			for _, f := range []string{out.Name(), log} {
				b, _ := os.ReadFile(f)
				t.Logf("%s:\n%s", f, b)
			}
		}
	})
	inside(t, ns, out, "sh", "-c", ganeshaSetup, "sh", conf, dir, log)
}

// hung accepts what comes to the port of NFS, and never answers.
func hung(t *testing.T, ns string) {
	needs(t, "socat")
	inside(t, ns, nil, "socat", "-u", "TCP-LISTEN:2049,fork,reuseaddr", "OPEN:/dev/null")
}

// extOf makes an ext2 image of what is in a squashfs, as clone_script -c made
// stage2.img of rescue.clp.
func extOf(t *testing.T, img string) string {
	needs(t, "unsquashfs", "mke2fs")
	dir := filepath.Join(t.TempDir(), "tree")
	out := filepath.Join(t.TempDir(), "stage2.img")
	for _, args := range [][]string{
		{"unsquashfs", "-quiet", "-no-progress", "-d", dir, img}, {"mke2fs", "-q", "-t", "ext2", "-d", dir, out, "220M"},
	} {
		if b, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, b)
		}
	}
	return out
}

// vm boots stage 1 with words on its command line.
func vm(t *testing.T, ns, words string) (*exec.Cmd, string) {
	t.Helper()
	kernel, initrd := images(t)
	out, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	cmd := start(t, out, "ip", "netns", "exec", ns, "qemu-system-x86_64", "-accel", "tcg", "-machine", "pc", "-cpu", "qemu64",
		"-m", "1024", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet no_timer_check norandmaps GOMAXPROCS=2 "+words,
		"-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:77:01:09",
		"-device", "virtio-rng-pci")
	return cmd, out.Name()
}

const inStage2 = "kamethod stage 2: rescue system, as the command line says"

// TestMethods boots stage 1 as the labels nfs, http and so on of the manual
// do, against real servers. The rescue system comes up without a golden node;
// a server that isn't there is named. One machine takes most of a minute: all
// but one only run with VMTEST=1.
func TestMethods(t *testing.T) {
	_, initrd := images(t)
	img := imageOf(t, initrd)
	manual := func(method string) string {
		return "automatic=method:" + method + ",interface:auto,network:dhcp,server:" + serverAt + ",directory:/cs4 root=/dev/ram3 rescue rw"
	}
	from := func(method, name string) string {
		return "stage 2 is " + method + "://" + serverAt + "/cs4/install/stage2/" + name + ", "
	}
	for _, tt := range []struct {
		name   string
		server func(t *testing.T, ns string)
		line   string
		want   []string
		ends   bool // by a reboot
	}{
		{
			"http", func(t *testing.T, ns string) { httpd(t, ns, served(t, img, "rescue.sqfs")) },
			manual("http"), []string{from("http", "rescue.sqfs"), inStage2}, false,
		},
		{
			"nfs3", func(t *testing.T, ns string) { ganesha(t, ns, served(t, img, "rescue.sqfs"), 3) },
			strings.Replace(manual("nfs"), ":auto", ":eth0", 1), []string{"mounted 10.77.0.1:/cs4 by NFS 3", from("nfs", "rescue.sqfs"), inStage2}, false,
		},
		{
			"nfs4", func(t *testing.T, ns string) { ganesha(t, ns, served(t, img, "rescue.sqfs"), 4) },
			manual("nfs"), []string{"mounted 10.77.0.1:/cs4 by NFS 4", from("nfs", "rescue.sqfs"), inStage2}, false,
		},
		{
			"ftp", func(t *testing.T, ns string) { vsftpd(t, ns, served(t, img, "rescue.clp")) },
			manual("ftp"), []string{from("ftp", "rescue.clp"), inStage2}, false,
		},
		{
			"ext2", func(t *testing.T, ns string) { httpd(t, ns, served(t, extOf(t, img), "rescue.clp")) },
			manual("http") + " ka.unsigned", []string{"nobody vouches for", from("http", "rescue.clp"), ", ext4, ", inStage2}, false,
		},
		{
			"foreign", func(t *testing.T, ns string) { httpd(t, ns, served(t, extOf(t, img), "rescue.clp")) },
			manual("http"), []string{"is not the stage 2 that was built with this stage 1", "add ka.unsigned", "rescue shell"}, false,
		},
		{
			"nfs-hangs", hung, manual("nfs"),
			[]string{"Can't reach a valid NFS server: 10.77.0.1\r\n", "try 1 of 5: get stage 2: nfs://10.77.0.1/cs4/install/stage2"}, false,
		},
		{
			"nobody", func(*testing.T, string) {}, manual("http"),
			[]string{"Can't reach a valid HTTP server: 10.77.0.1\r\n", "connection refused", "no HTTP server after 5 tries, reboot in 10s"}, true,
		},
		{
			"dolly", func(*testing.T, string) {}, "automatic=method:dolly,dolly_timeout:5,interface:eth0,network:dhcp rescue dollymethod",
			[]string{
				"Waiting for rescue from Dolly server (timeout 5) (Try 3/3)", "Can't reach a valid Dolly server\r\n",
				"no Dolly server after 3 tries, reboot in 10s",
			}, true,
		},
		{
			"http-kamethod", func(t *testing.T, ns string) { httpd(t, ns, served(t, img, "rescue.sqfs")) }, manual("http") + " kamethod",
			[]string{from("http", "rescue.sqfs"), "Can't reach a valid KA server\r\n", "try 5 of 5", "kamethod stage 2: reboot in 10s"}, true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name != "http" && os.Getenv("VMTEST") == "" {
				t.Skip("only with VMTEST=1: a machine of its own")
			}
			ns := network(t)
			tt.server(t, ns)
			cmd, console := vm(t, ns, tt.line)
			begun := time.Now()
			onConsole(t, console, 12*time.Minute, tt.want...) // a minute alone; a host at work takes long
			t.Logf("after %s", time.Since(begun).Round(time.Second))
			if tt.ends {
				ended(t, cmd, console)
			}
		})
	}
}
