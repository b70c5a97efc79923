package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/kamethod/kamethod/builder"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/templates"
)

const (
	stage1 = "all.rdz"
	stage2 = "rescue.sqfs"

	// stage1Goal is the size of all.rdz in the old manual.
	stage1Goal = 15_613_654

	// pinInImage is where both stages look for golden's key, and sumInImage
	// where stage 1 looks for the hash of the stage 2 that was built with it.
	pinInImage = "etc/kamethod/" + trust.PinFile
	sumInImage = "etc/kamethod/stage2.sha256"

	// serverFolder is where stage 1 looks for stage 2 on a file server, below
	// the folder that the boot line names.
	serverFolder = "install/stage2/"
)

// Boot loaders, from the packages pxelinux and syslinux-common.
const (
	pxelinux = "/usr/lib/PXELINUX/pxelinux.0"
	ldlinux  = "/usr/lib/syslinux/modules/bios/ldlinux.c32"
)

// pin gives the text of golden's public key, checked.
func (o *options) pin() ([]byte, error) {
	if o.pinFile == "" {
		id, err := trust.LoadOrCreate(trust.Dir())
		if err != nil {
			return nil, err
		}
		return []byte(id.Pin.String() + "\n"), nil
	}
	p, err := trust.ReadPin(o.pinFile)
	if err != nil {
		return nil, err
	}
	return []byte(p.String() + "\n"), nil
}

func (o *options) config(pin []byte) (builder.Config, error) {
	cfg := builder.Config{
		Source: o.source, Out: o.out, Cache: o.cache,
		Kernel: builder.KernelSource{Image: o.kernel, Modules: o.modules, Package: o.pkg},
	}
	key := []builder.ExtraFile{{Name: pinInImage, Mode: 0o644, Data: pin}}
	sum := builder.ExtraFile{Name: sumInImage, Mode: 0o644, SumOf: stage2}
	for _, img := range []struct {
		name, recipe string
		format       builder.Format
		goal         int64
		extra        []builder.ExtraFile
		base         string
	}{
		{stage2, "stage2.recipe", builder.Squashfs, 0, key, o.base},
		{stage1, "stage1.recipe", builder.Initramfs, stage1Goal, append(key, sum), ""}, // after stage 2, whose hash it has
	} {
		rec, err := o.recipe(img.recipe)
		if err != nil {
			return cfg, err
		}
		cfg.Images = append(cfg.Images, builder.ImageConfig{
			Name: img.name, Format: img.format, Recipe: rec, Extra: img.extra, Goal: img.goal, Base: img.base,
		})
	}
	var err error
	cfg.Tree, err = tftpTree()
	return cfg, err
}

func (o *options) recipe(name string) (*builder.Recipe, error) {
	from := templates.Image()
	if o.recipes != "" {
		from = os.DirFS(o.recipes)
	}
	f, err := from.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open recipe: %w", err)
	}
	defer f.Close()
	return builder.ParseRecipe(name, f)
}

// tftpTree is a folder that a TFTP server can give out as it is.
func tftpTree() ([]builder.TreeFile, error) {
	for _, loader := range []string{pxelinux, ldlinux} {
		if _, err := os.Stat(loader); err != nil {
			return nil, fmt.Errorf("boot loader (Debian packages pxelinux and syslinux-common): %w", err)
		}
	}
	tree := []builder.TreeFile{
		{Name: "tftp/pxelinux.0", From: pxelinux},
		{Name: "tftp/ldlinux.c32", From: ldlinux},
		{Name: "tftp/lpxelinux.0", From: "/usr/lib/PXELINUX/lpxelinux.0", Optional: true},
		{Name: "tftp/images/" + builder.KernelName, Of: builder.KernelName},
		{Name: "tftp/images/" + stage1, Of: stage1},
		{Name: serverFolder + stage2, Of: stage2},
		{Name: serverFolder + stage2 + ".sha256", SumOf: stage2},
	}
	tree = append(tree, loaders()...)
	texts := templates.Image()
	err := fs.WalkDir(texts, "tftp", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(texts, name)
		tree = append(tree, builder.TreeFile{Name: path.Clean(name), Data: b})
		return err
	})
	return tree, err
}

// loaders are boot loaders for other firmware than a PC's BIOS, by Debian's
// packages. Their names in the tree are those that shim and golden-serve ask
// for; shim and GRUB stay as they were signed. Those of other processors
// count where somebody has put them.
func loaders() []builder.TreeFile {
	return []builder.TreeFile{
		{Name: "tftp/shimx64.efi", From: "/usr/lib/shim/shimx64.efi.signed", Package: "shim-signed", Optional: true},
		{Name: "tftp/grubx64.efi", From: "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", Package: "grub-efi-amd64-signed", Optional: true},
		{Name: "tftp/snponly.efi", From: "/usr/lib/ipxe/snponly.efi", Package: "ipxe", Optional: true},
		{Name: "tftp/ipxe.efi", From: "/boot/ipxe.efi", Package: "ipxe", Optional: true},
		{Name: "tftp/undionly.kpxe", From: "/usr/lib/ipxe/undionly.kpxe", Package: "ipxe", Optional: true},
		{Name: "tftp/shimaa64.efi", From: "/usr/lib/shim/shimaa64.efi.signed", Optional: true},
		{Name: "tftp/grubaa64.efi", From: "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed", Optional: true},
	}
}
