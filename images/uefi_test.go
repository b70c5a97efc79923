package images

import (
	"os"
	"testing"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

// TestCloneUEFI plays the whole job on a machine with UEFI: PXE by the signed
// shim and GRUB, a GPT with an EFI system partition, and the boot from it. The
// cell uefi-gpt-ext4-lvm of the matrix does so in `make test`, too.
func TestCloneUEFI(t *testing.T) {
	if os.Getenv("UEFI") == "" {
		t.Skip("boots as the cell uefi-gpt-ext4-lvm of TestMatrix does: UEFI=1 runs it")
	}
	playClone(t, rehearsal.Config{Kind: goldenroot.Cloud, Nodes: 1, Firmware: vmlab.UEFI})
}

// TestCloneUEFIHTTP has the firmware fetch the boot loader by HTTP.
func TestCloneUEFIHTTP(t *testing.T) {
	if os.Getenv("UEFI") == "" {
		t.Skip("differs from TestCloneUEFI in the boot alone: UEFI=1 runs it")
	}
	playClone(t, rehearsal.Config{Kind: goldenroot.Cloud, Nodes: 1, Firmware: vmlab.UEFI, HTTPBoot: true, Alone: true})
}

// TestCloneSecureBoot: with Microsoft's keys only, nothing unsigned starts, in
// the network boot or from the clone's disk.
func TestCloneSecureBoot(t *testing.T) {
	if os.Getenv("UEFI") == "" {
		t.Skip("differs from TestCloneUEFI in the signatures alone: UEFI=1 runs it")
	}
	playClone(t, rehearsal.Config{Kind: goldenroot.Cloud, Nodes: 1, Firmware: vmlab.SecureBoot, Alone: true})
}
