package compare

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// write makes files under a new root.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSharedIdentity(t *testing.T) {
	a := Identity{"/etc/machine-id": "1", "/etc/hostname": "node1", "/etc/ssh/ssh_host_rsa_key": "k"}
	b := Identity{"/etc/machine-id": "2", "/etc/hostname": "node2", "/etc/ssh/ssh_host_rsa_key": "k"}
	if got := Shared(a, b); !slices.Equal(got, []string{"/etc/ssh/ssh_host_rsa_key: the same on both"}) {
		t.Errorf("shared: %v", got)
	}
	delete(b, "/etc/ssh/ssh_host_rsa_key")
	for _, pair := range [][2]Identity{{a, b}, {b, a}} {
		if got := Shared(pair[0], pair[1]); !slices.Equal(got, []string{"/etc/ssh/ssh_host_rsa_key: one has it, the other not"}) {
			t.Errorf("shared: %v", got)
		}
	}
	empty := Identity{"/etc/machine-id": "uninitialized"}
	if got := Shared(empty, empty); len(got) != 0 {
		t.Errorf("two machines that get their ids at the first boot: %v", got)
	}
}

func TestReadIdentityAndTraces(t *testing.T) {
	root := write(t, map[string]string{
		"etc/machine-id": "0123\n", "etc/hostname": "node1\n", "etc/ssh/ssh_host_rsa_key": "secret\n",
		"etc/ssh/sshd_config": "Port 22\n", "boot/grub/grub.cfg": "linux /vmlinuz root=UUID=aaaa\n",
	})
	id, err := ReadIdentity(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(id) != 3 || id["/etc/machine-id"] != "0123" || id["/etc/ssh/ssh_host_rsa_key"] != "secret" {
		t.Errorf("identity %v", id)
	}
	traces, err := Traces(root, []string{"aaaa", "0123", "bbbb"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/etc/machine-id has golden's 0123", "/boot/grub/grub.cfg has golden's aaaa"}
	if !slices.Equal(traces, want) {
		t.Errorf("traces %q, want %q", traces, want)
	}
}

func TestFstabProblems(t *testing.T) {
	parts := []Partition{
		{Number: 1, FSType: "ext4", UUID: "r"}, {Number: 5, FSType: "swap", UUID: "s"}, {Number: 6, FSType: "ext4", UUID: "h"},
	}
	mounts := map[int]string{1: "/", 6: "/home"}
	for _, c := range []struct {
		name, fstab string
		want        []string
	}{
		{"right", "# by hand\nUUID=r / ext4 defaults 0 1\nUUID=\"h\" /home ext4 defaults\nUUID=s none swap sw 0 0\nproc /proc proc defaults\n", nil},
		{"golden's device", "/dev/sda1 / ext4 x\nUUID=h /home ext4 x\nUUID=s none swap sw\n", []string{"fstab: /dev/sda1 is no file system of this disk"}},
		{"exchanged", "UUID=h / ext4 x\nUUID=r /home ext4 x\nUUID=s none swap sw\n", []string{
			"fstab: UUID=h is partition 6, mounted on / instead of /home", "fstab: UUID=r is partition 1, mounted on /home instead of /"}},
		{"lines lost", "UUID=r / ext4 x\n", []string{"fstab: nothing for /home", "fstab: swap partition 5 isn't named"}},
	} {
		got, err := FstabProblems(write(t, map[string]string{"etc/fstab": c.fstab}), parts, mounts)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}
