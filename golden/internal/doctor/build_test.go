package doctor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"

	"github.com/kamethod/kamethod/golden/trust"
)

// bzImage is a kernel image as far as its header goes.
func bzImage(release string, size int) []byte {
	b := make([]byte, size)
	copy(b[bzMagic:], "HdrS")
	const at = 0x3000
	binary.LittleEndian.PutUint16(b[bzVersion:], at-bzText)
	copy(b[at:], release+" (builder@lab) #1 SMP\x00")
	return b
}

// stage1Image is an all.rdz with what the doctor reads, and two drivers.
func stage1Image(t testing.TB, release, pin string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := cpio.NewWriter(z)
	dir := "lib/modules/" + release + "/"
	for _, f := range []struct{ name, text string }{
		{"init", "#!/bin/sh\n"},
		{dir + "kernel/drivers/net/ethernet/intel/igb/igb.ko", "ELF"},
		{dir + "modules.alias", "# Aliases\nalias pci:v00008086d00001533sv*sd*bc*sc*i* igb\nalias virtio:d00000001v* virtio_net\n"},
		{dir + "modules.builtin.modinfo", "virtio_pci.alias=pci:v00001AF4d*sv*sd*bc*sc*i*\x00virtio_pci.license=GPL\x00"},
		{"etc/kamethod/golden.pub", pin},
	} {
		if f.text == "" {
			continue
		}
		if err := w.WriteHeader(&cpio.Header{Name: f.name, Mode: cpio.TypeReg | 0o644, Size: int64(len(f.text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// files makes a golden root of four files, and small images that belong
// together.
func (l *lab) files() {
	l.t.Helper()
	for name, text := range map[string]string{"desc": "linux 1000\nswap fill\n", "root/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n",
		"root/etc/hostname": "golden\n", "root/usr/bin/true": "x", "root/sbin/init": "x",
		"root/usr/lib/grub/i386-pc/modinfo.sh": "x", "root/boot/vmlinuz": "x"} {
		l.write(name, []byte(text))
	}
	id, err := trust.LoadOrCreate(l.path("etc"))
	if err != nil {
		l.t.Fatal(err)
	}
	const release = "6.1.0-lab"
	l.write("images/rescue.sqfs", bytes.Repeat([]byte("stage 2 "), 512))
	l.write("images/vmlinuz", bzImage(release, 1<<20))
	l.write("images/all.rdz", stage1Image(l.t, release, id.Pin.String()))
	for from, to := range map[string]string{"vmlinuz": "tftp/images/vmlinuz", "all.rdz": "tftp/images/all.rdz"} {
		b, err := os.ReadFile(l.path("images/" + from))
		if err != nil {
			l.t.Fatal(err)
		}
		l.write("images/"+to, b)
	}
	for _, n := range []string{"pxelinux.0", "lpxelinux.0", "ldlinux.c32", "shimx64.efi", "grubx64.efi", "snponly.efi"} {
		l.write("images/tftp/"+n, bytes.Repeat([]byte(n), 4000))
	}
	l.manifest(release)
}

// manifest writes images/manifest.json as mkimage does.
func (l *lab) manifest(release string) {
	l.t.Helper()
	var m manifest
	m.Kernel.Release = release
	err := filepath.WalkDir(l.path("images"), func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "manifest.json" {
			return err
		}
		size, sum, err := digest(p)
		name, rerr := filepath.Rel(l.path("images"), p)
		m.Files = append(m.Files, struct {
			Name   string `json:"name"`
			Size   int64  `json:"size"`
			SHA256 string `json:"sha256"`
		}{name, size, sum})
		return errors.Join(err, rerr)
	})
	b, jerr := json.Marshal(m)
	if err := errors.Join(err, jerr); err != nil {
		l.t.Fatal(err)
	}
	l.write("images/manifest.json", b)
}
