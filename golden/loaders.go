package golden

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/iana"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// loaders looks at the boot files of the TFTP root, and takes in what an
// administrator chose. Without kernel, stage 1 or any boot loader no machine
// boots; a loader that is missing is of interest only to those who own such
// machines.
func (b Boot) loaders(c *netboot.Config, log *slog.Logger) error {
	for _, name := range netboot.NeededFiles(c.Files.Has) {
		if !c.Files.Has(name) {
			return fmt.Errorf("%s has no %s: run make image, or name its folder with --tftp-root", b.TFTPRoot, name)
		}
	}
	var there, missing []string
	for _, f := range netboot.BootFiles() {
		if c.Files[f.File] != nil {
			there = append(there, f.File)
		} else {
			missing = append(missing, fmt.Sprintf("%d %s", f.Arch, f.File))
		}
	}
	var err error
	c.Option43 = b.Option43
	if c.BootFiles, err = parseBootFiles(b.BootFiles); err != nil {
		return err
	}
	if len(there) == 0 && len(c.BootFiles) == 0 {
		return fmt.Errorf("%s has no boot loader, neither pxelinux.0 nor any other: run make image, or name its folder with --tftp-root", b.TFTPRoot)
	}
	log.Debug("boot loaders", "there", there, "not there", missing)
	return nil
}

// parseBootFiles reads "ARCH=FILE" of each architecture that doesn't go by
// the table.
func parseBootFiles(list []string) (map[iana.Arch]string, error) {
	out := map[iana.Arch]string{}
	for _, s := range list {
		arch, file, ok := strings.Cut(s, "=")
		n, err := strconv.ParseUint(arch, 0, 16)
		if !ok || err != nil || file == "" {
			return nil, fmt.Errorf("boot file %q: want the number of an architecture (DHCP option 93) and a file of the TFTP root, as 0=pxelinux.0", s)
		}
		if old := out[iana.Arch(n)]; old != "" {
			return nil, fmt.Errorf("boot file %q: architecture %d boots %s already", s, n, old)
		}
		out[iana.Arch(n)] = strings.TrimPrefix(file, "/")
	}
	return out, nil
}
