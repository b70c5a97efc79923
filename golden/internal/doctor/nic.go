package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// card is a network card that stage 1 has to drive.
type card struct {
	name     string // for people
	modalias string
	node     bool // a node has it, not this machine
}

// nics looks for the driver of each network card in stage 1.
func (e *exam) nics(s *stage1) []Finding {
	var out []Finding
	cards := e.localCards()
	for _, id := range e.PCI {
		m, err := pciAlias(id)
		if err != nil {
			out = append(out, Finding{"nic.id", Error, id, err.Error(), "lspci -nn on a node shows it"})
			continue
		}
		cards = append(cards, card{"network card " + id, m, true})
	}
	for _, c := range cards {
		out = append(out, e.nic(s, c))
	}
	return out
}

func (e *exam) nic(s *stage1, c card) Finding {
	// A virtio card needs two drivers: that of the PCI device, and that of
	// what it carries (include/uapi/linux/virtio_ids.h: 1 is a network card).
	want := []string{c.modalias}
	if strings.HasPrefix(c.modalias, "pci:v00001AF4d00001000") || strings.HasPrefix(c.modalias, "pci:v00001AF4d00001041") {
		want = append(want, "virtio:d00000001v00001AF4")
	}
	var with []string
	for _, m := range want {
		driver := driverOf(s.aliases, m)
		if driver == "" {
			if b := driverOf(s.builtin, m); b != "" {
				driver = b + " (in the kernel)"
			}
		}
		if driver == "" {
			return e.driverless(c, m)
		}
		with = append(with, driver)
	}
	return Finding{"nic.ok", OK, c.name, "stage 1 has its driver, " + strings.Join(with, " and "), ""}
}

// driverless says which module is missing, if any kernel here knows.
func (e *exam) driverless(c card, modalias string) Finding {
	f := Finding{ID: "nic.driver", Severity: Warning, Subject: c.name,
		What: "stage 1 has no driver for it: a machine with this card boots stage 1 and then finds no network"}
	if c.node {
		f.Severity = Error
	}
	lists, _ := filepath.Glob(filepath.Join(e.root, "lib/modules/*/modules.alias")) // the only error is a bad pattern
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		if m := driverOf(parseAliases(b), modalias); m != "" {
			dir := filepath.Dir(l)
			f.What += fmt.Sprintf("; the module is %s (%s has it)", m, dir)
			f.Do = fmt.Sprintf("copy the recipes, add the line \"module %s\" to stage1.recipe, and run mkimage --recipes FOLDER --modules %s", modulePath(dir, m), dir)
			return f
		}
	}
	f.Do = "no kernel of this machine knows the card: install a newer one and run mkimage --kernel IMAGE --modules FOLDER, or --kernel-package PACKAGE"
	return f
}

// modulePath is a module as a recipe names it: by its path, without suffix.
func modulePath(dir, module string) string {
	b, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return module
	}
	for line := range strings.Lines(string(b)) {
		file, _, _ := strings.Cut(line, ":")
		if moduleName(filepath.Base(file)) == module {
			file, _, _ = strings.Cut(file, ".ko")
			return file
		}
	}
	return module
}

// localCards are the PCI network cards of this machine: nodes are often the
// same model.
func (e *exam) localCards() []card {
	var out []card
	seen := map[string]bool{}
	devices, _ := filepath.Glob(filepath.Join(e.root, "sys/bus/pci/devices/*")) // the only error is a bad pattern
	for _, d := range devices {
		class, err := os.ReadFile(filepath.Join(d, "class"))
		if err != nil || !strings.HasPrefix(string(class), "0x02") { // PCI base class 02: network controller
			continue
		}
		b, err := os.ReadFile(filepath.Join(d, "modalias"))
		m := strings.TrimSpace(string(b))
		if err != nil || seen[m] {
			continue
		}
		seen[m] = true
		out = append(out, card{name: "this machine's network card " + pciID(m), modalias: m})
	}
	return out
}

// pciID shortens a modalias to what lspci -nn prints.
func pciID(modalias string) string {
	var v, d uint32
	if _, err := fmt.Sscanf(modalias, "pci:v%08Xd%08X", &v, &d); err != nil {
		return modalias
	}
	return fmt.Sprintf("%04x:%04x", v, d)
}
