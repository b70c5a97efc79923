package templates

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

//go:embed netboot
var netboot embed.FS

// Netboot fills the boot loader configurations that golden-serve answers
// with, one machine's at a time.
type Netboot struct {
	Image  bool     // boot kernel and stage 1; else the local disk
	Serial bool     // PXELINUX talks on the first serial port too
	Kernel string   // file names without a leading slash
	Initrd string   //
	Words  []string // further kernel words
	Label  string   // the entry's name; empty: kamethod
	Boot   []string // how stage 2 comes and what runs then; empty: by kamethod
	NodeID int      // node_id=; 0: not said
	BootIF string   // 01-MAC, for loaders that don't add it themselves
	Server string   // our address: that GRUB must not ask the machine's DHCP server
	Ask    bool     // we don't know who this is: GRUB asks again by its address
	GRUB   string   // GRUB for the disk of an EFI machine that runs iPXE; or empty
}

// bootWords is what stage 1 is told in every loader's language.
const bootWords = "automatic=method:ka,network:dhcp rw kamethod"

// KernelWords are all kernel words but BOOTIF.
func (n Netboot) KernelWords() []string {
	out := slices.Clone(n.Boot)
	if len(out) == 0 {
		out = strings.Fields(bootWords)
	}
	if n.NodeID != 0 {
		out = append(out, "node_id="+strconv.Itoa(n.NodeID))
	}
	return append(out, n.Words...)
}

// Entry is the name of the entry that loads the image.
func (n Netboot) Entry() string { return cmp.Or(n.Label, LabelKAMethod) }

// PXELINUXConfig is for PXELINUX, U-Boot and petitboot. SYSAPPEND 2 lets
// stage 1 know the interface that booted (BOOTIF=01-MAC). TIMEOUT is in
// tenths of a second and counts at the prompt only, where PXELINUX lands when
// a transfer failed or Caps Lock was left on: it then boots the default again.
// NOESCAPE would try again without any pause.
func (n Netboot) PXELINUXConfig() ([]byte, error) { return n.write("pxelinux.cfg.tmpl") }

// GRUBConfig is for GRUB on UEFI. After a failed transfer the machine starts
// anew, and so asks again what it should do.
func (n Netboot) GRUBConfig() ([]byte, error) { return n.write("grub.cfg.tmpl") }

// IPXEScript is for iPXE on BIOS and UEFI. Its file names start with a slash:
// iPXE then takes them from where the script came from.
func (n Netboot) IPXEScript() ([]byte, error) { return n.write("boot.ipxe.tmpl") }

func (n Netboot) write(name string) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"grub": grubQuote, "join": strings.Join}).ParseFS(netboot, "netboot/"+name)
	if err != nil {
		return nil, fmt.Errorf("parse template %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, n); err != nil {
		return nil, fmt.Errorf("fill template %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// grubQuote keeps GRUB's shell from reading a word.
func grubQuote(words []string) string {
	var out []string
	for _, w := range words {
		if strings.ContainsAny(w, " \t\"'\\$;&|<>{}#*?[]()") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}
