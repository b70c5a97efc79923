package main

import (
	"fmt"
	"strings"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/wire"
)

// addBlocks takes what -D, -m and -M say.
func (o *cloneFlags) addBlocks(g *golden.Original) error {
	g.NoFiles = o.noFiles
	for _, s := range split(o.blocks) {
		c, err := golden.ParseBlockCopy(s)
		if err != nil {
			return err
		}
		g.Blocks = append(g.Blocks, c)
	}
	switch o.blocksHow {
	case "", "auto":
	case wire.BlocksUsed, wire.BlocksNonzero, wire.BlocksRaw:
		g.BlocksHow = o.blocksHow
	default:
		return fmt.Errorf("--blocks-sent %s: want auto, used, nonzero or raw", o.blocksHow)
	}
	g.BootCode = map[string]string{}
	put := func(option, disk, file string) error {
		disk = strings.TrimPrefix(disk, "/dev/")
		if _, twice := g.BootCode[disk]; twice || disk == "" {
			return fmt.Errorf("%s %s: want one boot record for each disk", option, disk)
		}
		g.BootCode[disk] = file
		return nil
	}
	for _, disk := range split(o.bootOf) {
		if err := put("-m", disk, ""); err != nil {
			return err
		}
	}
	for _, s := range o.bootFrom {
		disk, file, ok := strings.Cut(s, "=")
		if !ok || file == "" {
			return fmt.Errorf("-M %s: want a disk and a file with its boot record: -M sda /tmp/mbr", s)
		}
		if err := put("-M", disk, file); err != nil {
			return err
		}
	}
	return nil
}
