package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kamethod/kamethod/images/bench/lab"
)

// The addresses of the netboot part: a network that has room for thousands of
// machines.
const (
	NetbootServer = "10.80.0.1"
	netbootMask   = "/16"
	poolFrom      = "10.80.128.1"
	poolTo        = "10.80.255.254"
	NetbootHTTP   = 8069
)

// Netboot is a server, or several, on the golden host.
type Netboot struct {
	Name  string
	ready string // what it prints then; empty: see warm
	cmd   lab.Command
}

// warm is for servers that don't say when they are ready.
const warm = time.Second

// NetbootTree makes a folder of boot files with one that is fetched, and the
// small root that is never cloned here.
func NetbootTree(dir string, fill func(path string) error) error {
	for name, text := range map[string]string{
		"desc": "linux fill\n", "root/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", "root/usr/bin/true": "", "root/sbin/init": "", "root/usr/lib/grub/i386-pc/modinfo.sh": "", "root/boot/vmlinuz": "",
		"images/rescue.sqfs": "x", "images/tftp/pxelinux.0": "x", "images/tftp/ldlinux.c32": "x", "images/tftp/images/vmlinuz": "x",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("make boot files: %w", err)
		}
	}
	return fill(filepath.Join(dir, NetbootFile))
}

// NetbootFile is the file that is fetched, under the folder of NetbootTree;
// NetbootName is how it is asked for.
const (
	NetbootFile = "images/tftp/" + NetbootName
	NetbootName = "images/all.rdz"
)

// NetbootOurs is the real program in a session that never begins.
func NetbootOurs(bin, dir string, machines int) Netboot {
	state := filepath.Join(dir, "state")
	_ = os.RemoveAll(state) // of an earlier one; what can't be removed shows at its start
	return Netboot{Name: "kamethod", ready: "netboot serves", cmd: lab.Command{
		Prog: filepath.Join(bin, "golden-serve"),
		Args: []string{"-n", fmt.Sprint(machines), "--images", filepath.Join(dir, "images"), "--yes", "--dhcp", "full",
			"--root", filepath.Join(dir, "root"), "-p", "sda", filepath.Join(dir, "desc"), "--interface", "eth0",
			"--from", poolFrom, "--to", poolTo, "--http-port", fmt.Sprint(NetbootHTTP)},
		Env: []string{"KAMETHOD_ETC=" + filepath.Join(dir, "etc"), "KAMETHOD_STATE=" + state},
	}}
}

// NetbootDnsmasq serves DHCP and TFTP.
func NetbootDnsmasq(dir string) Netboot {
	leases := filepath.Join(dir, "dnsmasq.leases")
	_ = os.Remove(leases) // of an earlier one
	return Netboot{Name: "dnsmasq", ready: "DHCP, IP range", cmd: lab.Command{
		Prog: "dnsmasq",
		Args: []string{"--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces", "--user=root",
			"--dhcp-range=" + poolFrom + "," + poolTo + ",255.255.0.0,12h", "--dhcp-lease-max=40000", "--dhcp-authoritative", "--no-ping",
			"--dhcp-boot=pxelinux.0", "--dhcp-leasefile=" + leases, "--quiet-dhcp", "--quiet-tftp",
			"--enable-tftp", "--tftp-root=" + filepath.Join(dir, "images/tftp"), "--tftp-max=2000", "--tftp-no-fail"},
	}}
}

// NetbootTftpd is tftpd-hpa.
func NetbootTftpd(dir string) Netboot {
	return Netboot{Name: "tftpd-hpa", cmd: lab.Command{
		Prog: "in.tftpd", Args: []string{"-L", "-4", "-u", "root", "-a", NetbootServer + ":69", "-s", filepath.Join(dir, "images/tftp")},
	}}
}

// NetbootNginx serves HTTP.
func NetbootNginx(dir string) (Netboot, error) {
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; user root; worker_processes auto; pid %s/nginx.pid; error_log stderr;
events { worker_connections 4096; }
http { access_log off; sendfile on; default_type application/octet-stream;
  server { listen %s:%d backlog=1024; root %s/images/tftp; } }
`, dir, NetbootServer, NetbootHTTP, dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return Netboot{}, fmt.Errorf("configure nginx: %w", err)
	}
	return Netboot{Name: "nginx", cmd: lab.Command{Prog: "nginx", Args: []string{"-p", dir, "-c", conf}, Ask: true}}, nil
}

// Serve starts the server on the golden host, and waits until it is ready.
func (n Netboot) Serve(ctx context.Context, room *lab.Room) (*lab.Process, error) {
	p, err := room.Start(ctx, lab.Golden, n.cmd)
	if err != nil {
		return nil, err
	}
	if n.ready != "" {
		if _, err := p.Expect(ctx, n.ready, time.Minute); err != nil {
			p.Stop()
			return nil, err
		}
		return p, nil
	}
	select {
	case <-time.After(warm):
	case <-ctx.Done():
	}
	return p, ctx.Err()
}

// NetbootAddresses gives the hosts of a room the addresses of this part: the
// first host has so many, one after another from 10.80.1.1.
func NetbootAddresses(ctx context.Context, room *lab.Room, clients int) error {
	if err := room.Run(ctx, lab.Golden, "ip", "addr", "flush", "dev", "eth0"); err != nil {
		return err
	}
	if err := room.Run(ctx, lab.Golden, "ip", "addr", "add", NetbootServer+netbootMask, "brd", "+", "dev", "eth0"); err != nil {
		return err
	}
	if err := room.Run(ctx, 1, "ip", "addr", "flush", "dev", "eth0"); err != nil {
		return err
	}
	for i := range clients {
		if err := room.Run(ctx, 1, "ip", "addr", "add", fmt.Sprintf("10.80.1.%d%s", i+1, netbootMask), "brd", "+", "dev", "eth0"); err != nil {
			return err
		}
	}
	return nil
}
