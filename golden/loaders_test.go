package golden

import (
	"log/slog"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

func TestLoaders(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		boot  Boot
		want  map[iana.Arch]string
		err   string
	}{
		{"none", []string{"images/vmlinuz", "images/all.rdz"}, Boot{}, nil,
			"root has no boot loader, neither pxelinux.0 nor any other: run make image, or name its folder with --tftp-root"},
		{"half a loader", []string{"pxelinux.0", "images/all.rdz"}, Boot{}, nil, "root has no ldlinux.c32: run make image, or name its folder with --tftp-root"},
		{"no kernel", []string{"pxelinux.0", "ldlinux.c32", "images/all.rdz"}, Boot{}, nil, "root has no images/vmlinuz: run make image, or name its folder with --tftp-root"},
		{"UEFI only", []string{"grubx64.efi", "images/vmlinuz", "images/all.rdz"}, Boot{}, map[iana.Arch]string{}, ""},
		{"own", []string{"own.efi", "images/vmlinuz", "images/all.rdz"}, Boot{BootFiles: []string{"7=/own.efi", "0x10=own.efi"}},
			map[iana.Arch]string{7: "own.efi", 16: "own.efi"}, ""},
		{"no number", []string{"pxelinux.0", "ldlinux.c32", "images/vmlinuz", "images/all.rdz"}, Boot{BootFiles: []string{"bios=pxelinux.0"}}, nil,
			`boot file "bios=pxelinux.0": want the number of an architecture (DHCP option 93) and a file of the TFTP root, as 0=pxelinux.0`},
		{"no file", []string{"pxelinux.0", "ldlinux.c32", "images/vmlinuz", "images/all.rdz"}, Boot{BootFiles: []string{"0"}}, nil,
			`boot file "0": want the number of an architecture (DHCP option 93) and a file of the TFTP root, as 0=pxelinux.0`},
		{"twice", []string{"pxelinux.0", "ldlinux.c32", "images/vmlinuz", "images/all.rdz"}, Boot{BootFiles: []string{"0=a", "0=b"}}, nil,
			`boot file "0=b": architecture 0 boots a already`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for _, f := range tt.files {
				tree[f] = &fstest.MapFile{Data: []byte("x")}
			}
			files, err := netboot.FromFS(tree)
			if err != nil {
				t.Fatal(err)
			}
			tt.boot.TFTPRoot = "root"
			c := netboot.Config{Files: files}
			got := ""
			if err := tt.boot.loaders(&c, slog.New(slog.DiscardHandler)); err != nil {
				got = err.Error()
			}
			if got != tt.err || tt.err == "" && !cmp.Equal(c.BootFiles, tt.want) {
				t.Errorf("error %q, want %q; files %v, want %v", got, tt.err, c.BootFiles, tt.want)
			}
		})
	}
}
