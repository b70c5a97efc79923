package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/kamethod/kamethod/builder"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/spf13/cobra"
)

const long = `Makes the images that a node boots from the network:

  vmlinuz        kernel: the running machine's, a named one, or the one of the
                 distribution's package linux-image-amd64
  all.rdz        stage 1: network drivers, and what gets stage 2
  rescue.sqfs    stage 2: storage drivers, and what clones
  tftp/          a ready tree for a TFTP server
  install/       stage 2 for an HTTP, FTP or NFS server (install/stage2/)
  manifest.json  what is in them

With --base, stage 2 is made on top of a rescue system of your own: a folder,
a squashfs, cpio (newc), tar or ISO 9660 file, each plain or packed with gzip,
zstd or xz, or a rescue.clp (compressed loop, version 2.0). Ours wins where both
have a name; what had to go is printed, and listed in manifest.json. Owners,
modes and device nodes of the base stay; times and extended attributes go.

The golden node's public key goes into both stages; a key pair is made if
there is none. Stage 1 has the hash of stage 2, too, and takes no other from a
file server. The same sources, kernel and key give the same bytes.

EXIT STATUS
  0    all images are made (one larger than its goal gives a warning)
  1    an image could not be made
  2    usage
  130  interrupted`

type options struct {
	source, out, cache   string
	kernel, modules, pkg string
	pinFile, recipes     string
	base                 string
	output               string
	quiet                bool
}

// usageError is a wrong command line.
type usageError struct{ error }

func exitStatus(err error) int {
	if errors.As(err, &usageError{}) {
		return 2
	}
	return 1
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "mkimage", Short: "make the boot images", Long: long,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("argument %q: mkimage takes none", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := c.Flags()
	f.StringVar(&o.source, "source", ".", "folder of the Go module with the commands")
	f.StringVar(&o.out, "out", "images", "folder for the results")
	f.StringVar(&o.cache, "cache", "", "folder for the kernel package (default: .cache in the folder for the results)")
	f.StringVar(&o.kernel, "kernel", "", "kernel image to use")
	f.StringVar(&o.modules, "modules", "", "folder with its modules, as /lib/modules/RELEASE (default: found by the image's release)")
	f.StringVar(&o.pkg, "kernel-package", "", "take the kernel from this package, even if the machine has one")
	f.StringVar(&o.pinFile, "pin-file", "", "golden node's public key (default: "+filepath.Join(trust.Dir(), trust.PinFile)+", made if missing)")
	f.StringVar(&o.recipes, "recipes", "", "folder with stage1.recipe and stage2.recipe, instead of the built-in ones")
	f.StringVarP(&o.base, "base", "c", "", "rescue system that stage 2 is laid over: a folder, or an image such as rescue.clp")
	f.StringVarP(&o.output, "output", "o", "table", "what to print at the end: table or json")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress lines")
	return c
}

func (o *options) run(c *cobra.Command) error {
	if o.output != "table" && o.output != "json" {
		return usageError{fmt.Errorf("--output %q: want table or json", o.output)}
	}
	if o.pkg != "" && (o.kernel != "" || o.modules != "") {
		return usageError{errors.New("--kernel-package and --kernel exclude each other")}
	}
	pin, err := o.pin()
	if err != nil {
		return err
	}
	cfg, err := o.config(pin)
	if err != nil {
		return err
	}
	if !o.quiet {
		cfg.Progress = func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }
	}
	m, err := builder.Build(c.Context(), cfg)
	if err != nil {
		return err
	}
	return report(c.OutOrStdout(), o.output, m)
}

func report(w io.Writer, form string, m *builder.Manifest) error {
	if form == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(m)
	}
	return m.Table(w)
}
