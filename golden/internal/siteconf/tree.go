package siteconf

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/internal/nodesfile"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/kamethod/kamethod/templates"
)

// entry is a label of PXELINUX's menu with its boot line.
type entry struct {
	Label string
	Words []string
}

// entries are all labels but local, as they are for a machine.
func (s Site) entries(nodeID int) []entry {
	var out []entry
	for _, label := range templates.Labels() {
		if label != templates.LabelLocal {
			out = append(out, entry{label, s.words(label, templates.LabelWords(label, s.Server, s.Directory), nodeID)})
		}
	}
	return out
}

// words are the whole boot line of a label.
func (s Site) words(label string, boot []string, nodeID int) []string {
	out := slices.Clone(boot)
	if nodeID != 0 {
		out = append(out, fmt.Sprintf("node_id=%d", nodeID))
	}
	if s.Golden != "" {
		out = append(out, "ka.server="+s.Golden)
	}
	if s.Session != "" {
		out = append(out, "kaopt="+s.Session)
	}
	if !slices.Contains(boot, "ka.run="+wire.RunRAM) {
		if !templates.Lasts(label) {
			out = append(out, "mitigations=off") // as golden's own boot lines
		}
	}
	return append(out, strings.Fields(s.Console)...)
}

// stage1Takes says which word of a boot line stage 1, or a boot loader, would
// not take.
func stage1Takes(words []string) error {
	line := strings.Join(words, " ")
	if err := netboot.CheckWords(line); err != nil {
		return err
	}
	if _, errs := wire.ParseCmdline(line); len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// tree is what the TFTP tree of make image needs besides: what each machine
// boots, in the words of each boot loader.
func (s Site) tree() ([]File, error) {
	var out []File
	for _, name := range []string{"messages", "help.txt"} {
		b, err := fs.ReadFile(templates.Image(), "tftp/"+name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		out = append(out, File{path.Join(s.Prefix, name), b})
	}
	list, err := s.machine(nodesfile.Node{Label: s.Default, Server: s.Server, Directory: s.Directory}, "default")
	if err != nil {
		return nil, err
	}
	out = append(out, list...)
	for _, n := range s.Nodes {
		n.Label = cmp.Or(n.Label, templates.LabelKAMethod)
		n.Server, n.Directory = cmp.Or(n.Server, s.Server), cmp.Or(n.Directory, s.Directory)
		list, err := s.machine(n, "01-"+strings.ReplaceAll(n.MAC, ":", "-"))
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// menu is what PXELINUX's template is filled with.
type menu struct {
	Who     string
	Serial  bool
	Default string
	Entries []entry
}

// machine makes the files of one machine, or of all that have none. key is
// PXELINUX's name of it.
func (s Site) machine(n nodesfile.Node, key string) ([]File, error) {
	m := menu{Who: strings.TrimSpace("node " + fmt.Sprint(n.Number) + " " + n.Name), Serial: strings.Contains(s.Console, "ttyS0"), Default: n.Label, Entries: s.entries(n.Number)}
	everybody := key == "default"
	if everybody {
		m.Who = "machines without a file of their own"
	}
	own := s.words(n.Label, n.Words(), n.Number)
	for i := range m.Entries {
		if m.Entries[i].Label == n.Label {
			m.Entries[i].Words = own
		}
	}
	pxelinux, err := templates.Server("pxelinux.cfg", template.FuncMap{"join": strings.Join}, m)
	if err != nil {
		return nil, err
	}
	l := templates.Netboot{
		Image: n.Label != templates.LabelLocal, Kernel: "images/vmlinuz", Initrd: "images/all.rdz", Boot: own,
		BootIF: key, Server: s.TFTP.String(), GRUB: "grubx64.efi",
	}
	others, err := others(l, everybody)
	return append([]File{{path.Join(s.Prefix, "pxelinux.cfg", key), pxelinux}}, others...), err
}

// others are what GRUB and iPXE read. They ask for the file of all machines
// first, and by it for the one of their own.
func others(l templates.Netboot, everybody bool) ([]File, error) {
	suffix := "-" + l.BootIF
	// GRUB has no way to write dashes: its files have an address's colons.
	grubSuffix := "-01-" + strings.ReplaceAll(strings.TrimPrefix(l.BootIF, "01-"), "-", ":")
	if everybody {
		suffix, grubSuffix, l.BootIF = "", "", "01-$net_default_mac"
	}
	grub, err := l.GRUBConfig()
	if err != nil {
		return nil, err
	}
	if everybody {
		grub = append([]byte("configfile /grub/grub.cfg-01-$net_default_mac\n"), grub...)
		l.BootIF = "01-${netX/mac:hexhyp}"
	}
	ipxe, err := l.IPXEScript()
	if err != nil {
		return nil, err
	}
	if everybody {
		ipxe = append([]byte("#!ipxe\nchain --replace --autofree /boot.ipxe-"+l.BootIF+" ||\n"), strings.TrimPrefix(string(ipxe), "#!ipxe\n")...)
	}
	return []File{{"grub/grub.cfg" + grubSuffix, grub}, {"boot.ipxe" + suffix, ipxe}}, nil
}
