package doctor

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"
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
