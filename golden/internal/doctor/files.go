package doctor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/iana"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/trust"
)

// manifest is what we read of the manifest.json that mkimage wrote.
type manifest struct {
	Kernel struct {
		Release string `json:"release"`
	} `json:"kernel"`
	Files []struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	} `json:"files"`
}

const (
	maxManifest = 16 << 20
	makeAgain   = "run make image again (mkimage)"
)

// files looks at the images and the TFTP root. pin is golden's key; zero: it
// has none yet.
func (e *exam) files(pin trust.Pin) []Finding {
	var out []Finding
	out = append(out, e.needed()...)
	out = append(out, e.loaders()...)
	out = append(out, e.secureBoot()...)
	m, f := e.readManifest()
	out = append(out, f...)
	if m != nil {
		out = append(out, e.compare(m)...)
	}
	out = append(out, e.kernel(m, pin)...)
	if len(out) == 0 || !slices.ContainsFunc(out, func(f Finding) bool {
		return strings.HasPrefix(f.ID, "files.") && f.Severity != Note && f.Severity != OK
	}) {
		out = append(out, Finding{"files.ok", OK, e.TFTPRoot, "kernel, stage 1 and stage 2 are there and belong together", ""})
	}
	return out
}

// needed are the files without which no machine boots.
func (e *exam) needed() []Finding {
	var out []Finding
	list := []string{filepath.Join(e.Images, "rescue.sqfs")}
	for _, n := range netboot.NeededFiles(e.has) {
		list = append(list, filepath.Join(e.TFTPRoot, n))
	}
	for _, p := range list {
		i, err := os.Stat(p)
		switch {
		case errors.Is(err, os.ErrNotExist):
			out = append(out, Finding{"files.missing", Error, p, "is not there", "run make image, or name its folder with --images (--tftp-root)"})
		case err != nil:
			out = append(out, Finding{"files.missing", Error, p, err.Error(), "make it readable"})
		case !i.Mode().IsRegular():
			out = append(out, Finding{"files.missing", Error, p, "is no regular file, and only those are served", makeAgain})
		case i.Size() == 0:
			out = append(out, Finding{"files.missing", Error, p, "is empty", makeAgain})
		}
	}
	return out
}

// common are the architectures of which most machines are: without one of
// these something is missing, without another one perhaps nothing.
func common(a iana.Arch) bool { return a == iana.INTEL_X86PC || a == iana.EFI_X86_64 }

// loaders says which firmware can't be started.
func (e *exam) loaders() []Finding {
	first := map[iana.Arch]string{}
	var order []iana.Arch
	for _, r := range netboot.BootFiles() {
		if _, known := first[r.Arch]; !known {
			first[r.Arch] = r.File
			order = append(order, r.Arch)
		}
		if e.bootable(r.File) {
			first[r.Arch] = ""
		}
	}
	var out []Finding
	var rest []string
	for _, a := range order {
		switch {
		case first[a] == "":
		case common(a):
			out = append(out, Finding{"files.loader", Warning, archName(a), fmt.Sprintf("machines of this kind can't boot from here: %s has no %s", e.TFTPRoot, first[a]),
				"install the boot loader's package (scripts/deps-image.sh names them) and " + makeAgain})
		default:
			rest = append(rest, archName(a))
		}
	}
	if len(rest) > 0 {
		out = append(out, Finding{"files.loaders", Note, e.TFTPRoot, "has no boot loader for machines of these kinds: " + strings.Join(rest, ", "), ""})
	}
	return out
}

// secureBoot says that shim alone isn't enough beside another DHCP server:
// there GRUB, which it starts, looks for its files at that server.
func (e *exam) secureBoot() []Finding {
	if e.DHCP != netboot.DHCPProxy || !e.bootable("shimx64.efi") {
		return nil
	}
	return []Finding{{"files.secureboot", Note, e.TFTPRoot, "has shimx64.efi, but with --dhcp proxy alone machines with Secure Boot on can't boot: they are sent iPXE, which isn't signed, because GRUB would look for its files at the DHCP server that gave the address",
		"switch Secure Boot off on the nodes; or use --dhcp full; or have that DHCP server name golden as next server (next-server, siaddr) and start golden-serve with --boot-file 7=shimx64.efi"}}
}

// has tells whether the TFTP root has a boot file.
func (e *exam) has(name string) bool {
	i, err := os.Lstat(filepath.Join(e.TFTPRoot, filepath.FromSlash(name)))
	return err == nil && i.Mode().IsRegular()
}

// bootable is has for a boot file: a shim without the GRUB that it starts stops
// the machine, and golden-serve doesn't offer it.
func (e *exam) bootable(name string) bool {
	base, shim := strings.CutPrefix(path.Base(name), "shim")
	return e.has(name) && (!shim || e.has(path.Join(path.Dir(name), "grub"+base)))
}

func (e *exam) readManifest() (*manifest, []Finding) {
	name := filepath.Join(e.Images, "manifest.json")
	f, err := os.Open(name)
	if err != nil {
		return nil, []Finding{{"files.manifest", Warning, name, "can't be read, so nobody can say whether the images belong together: " + err.Error(), makeAgain}}
	}
	defer f.Close()
	var m manifest
	if err := json.NewDecoder(io.LimitReader(f, maxManifest)).Decode(&m); err != nil {
		return nil, []Finding{{"files.manifest", Warning, name, "can't be read: " + err.Error(), makeAgain}}
	}
	return &m, nil
}

// compare looks whether the files are those that mkimage made together.
func (e *exam) compare(m *manifest) []Finding {
	var out []Finding
	for _, f := range m.Files {
		if !filepath.IsLocal(f.Name) {
			out = append(out, Finding{"files.manifest", Warning, f.Name, "the manifest names a file outside of its folder", makeAgain})
			continue
		}
		p := filepath.Join(e.Images, f.Name)
		if below, ok := strings.CutPrefix(f.Name, "tftp/"); ok {
			p = filepath.Join(e.TFTPRoot, below)
		}
		size, sum, err := digest(p)
		switch {
		case errors.Is(err, os.ErrNotExist):
			if !e.reported(f.Name) {
				out = append(out, Finding{"files.missing", Warning, p, "is not there, though mkimage made it", makeAgain})
			}
		case err != nil:
			out = append(out, Finding{"files.missing", Error, p, err.Error(), "make it readable"})
		case size != f.Size || sum != f.SHA256:
			out = append(out, Finding{"files.differs", Error, p, fmt.Sprintf("isn't the file that mkimage made: %d bytes, the manifest says %d: it was changed, or half copied", size, f.Size),
				makeAgain + ", or copy it anew with its manifest.json"})
		}
	}
	return out
}

// reported tells whether needed has an error for a missing file.
func (e *exam) reported(name string) bool {
	return name == "rescue.sqfs" || slices.Contains(netboot.NeededFiles(e.has), strings.TrimPrefix(name, "tftp/"))
}

func digest(file string) (int64, string, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return 0, "", fmt.Errorf("read %s: %w", file, err)
	}
	return n, hex.EncodeToString(h.Sum(nil)), nil
}

// kernel looks whether the kernel, the modules in stage 1 and golden's key
// belong together, and whether stage 1 has the drivers.
func (e *exam) kernel(m *manifest, pin trust.Pin) []Finding {
	var out []Finding
	image := filepath.Join(e.TFTPRoot, "images", "vmlinuz")
	rdz := filepath.Join(e.TFTPRoot, "images", "all.rdz")
	release := ""
	if f, err := os.Open(image); err == nil {
		release, err = kernelRelease(f)
		_ = f.Close() // was only read
		if err != nil {
			out = append(out, Finding{"files.kernel", Error, image, err.Error(), makeAgain})
		}
	}
	if m != nil && release != "" && m.Kernel.Release != release {
		out = append(out, Finding{"files.kernel", Error, image, fmt.Sprintf("is kernel %s, and the images were made for %s (manifest.json)", release, m.Kernel.Release), makeAgain})
	}
	s, err := readStage1(rdz)
	if errors.Is(err, os.ErrNotExist) {
		return out // needed has said so
	}
	if err != nil {
		return append(out, Finding{"files.stage1", Error, rdz, err.Error(), makeAgain})
	}
	if release != "" && !slices.Contains(s.releases, release) {
		out = append(out, Finding{"files.kernel", Error, rdz, fmt.Sprintf("has modules of kernel %s, and the kernel beside it is %s: no driver will load", strings.Join(s.releases, ", "), release), makeAgain})
	}
	out = append(out, keyOf(rdz, s, pin)...)
	return append(out, e.nics(s)...)
}

// keyOf compares golden's key with the one that was baked into stage 1.
func keyOf(rdz string, s *stage1, pin trust.Pin) []Finding {
	switch {
	case s.pin.IsZero():
		return []Finding{{"files.key", Error, rdz, "has no key of a golden node in it: a node can't know whom to trust", makeAgain + " on this machine"}}
	case pin.IsZero():
		return []Finding{{"files.key", Error, trust.Dir(), "has no key, and stage 1 was made with one: golden-serve will make another, and every node will turn away from it",
			"copy golden.key and golden.pub from where the images were made, or " + makeAgain}}
	case pin != s.pin:
		return []Finding{{"files.key", Error, rdz, fmt.Sprintf("was made for another golden node: its key is %.16s…, ours %.16s…; every node will turn away from this one", s.pin, pin),
			makeAgain + " on this machine, or with --pin-file"}}
	}
	return nil
}
