package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/wire"
)

func TestBlockOptions(t *testing.T) {
	o := cloneFlags{blocks: []string{"sda3|/dev/sda4", "sdb1=/x/win.img"}, blocksHow: "raw", bootOf: []string{"sdb|sdc"}, bootFrom: []string{"/dev/sda=/tmp/mbr"}, noFiles: true}
	var g golden.Original
	if err := o.addBlocks(&g); err != nil {
		t.Fatal(err)
	}
	want := golden.Original{
		Blocks: []golden.BlockCopy{{On: "sda3"}, {On: "sda4"}, {On: "sdb1", File: "/x/win.img"}}, BlocksHow: wire.BlocksRaw,
		BootCode: map[string]string{"sda": "/tmp/mbr", "sdb": "", "sdc": ""}, NoFiles: true,
	}
	if d := cmp.Diff(want, g); d != "" {
		t.Error(d)
	}
	for want, o := range map[string]cloneFlags{
		"-D =x":               {blocks: []string{"=x"}},
		"--blocks-sent some":  {blocksHow: "some"},
		"-M sda: want a disk": {bootFrom: []string{"sda"}},
		"-M sda: want one":    {bootOf: []string{"sda"}, bootFrom: []string{"sda=/tmp/mbr"}},
	} {
		if err := o.addBlocks(&g); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := (&cloneFlags{blocksHow: "auto"}).addBlocks(&g); err != nil || g.BlocksHow != wire.BlocksRaw {
		t.Errorf("auto: %v", err)
	}
}
