package builder

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// addFiles puts files of this machine, or of packages that are unpacked aside,
// into an image as they are, and lists of device names with what the image's
// modules can match.
func (r *run) addFiles(ctx context.Context, t *Tree, img ImageConfig, e *ImageEntry) error {
	for _, f := range slices.Concat(img.Recipe.Files, img.Recipe.Names) {
		from, err := r.hostFile(ctx, f)
		if err != nil && f.Optional {
			if f.Package != "" {
				r.warn("%s: no %s: %v", img.Name, f.Name, err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("recipe line %d: %w", f.Line, err)
		}
		if slices.Contains(img.Recipe.Names, f) {
			err = r.addNames(t, f, from, e)
		} else {
			err = addHostFile(t, f.Name, from)
		}
		if err != nil {
			return fmt.Errorf("recipe line %d: %w", f.Line, err)
		}
	}
	return nil
}

func addHostFile(t *Tree, name, from string) error {
	fi, err := os.Stat(from)
	if err != nil {
		return err
	}
	return t.AddPath(name, from, fi.Mode().Perm())
}

// hostFile finds a file on this machine or in its package. A link of an
// unpacked package leads into the package.
func (r *run) hostFile(ctx context.Context, f HostFile) (string, error) {
	_, err := os.Stat(f.Name)
	if !errors.Is(err, os.ErrNotExist) || f.Package == "" {
		return f.Name, err
	}
	dir, err := r.unpack(ctx, f.Package)
	if err != nil {
		return "", err
	}
	from := filepath.Join(dir, f.Name)
	if to, err := os.Readlink(from); err == nil && filepath.IsAbs(to) {
		from = filepath.Join(dir, to)
	}
	_, err = os.Stat(from)
	return from, err
}

// maxNames bounds a list of device names; pci.ids of 2025 has 1.5 MB.
const maxNames = 16 << 20

func (r *run) addNames(t *Tree, f HostFile, from string, e *ImageEntry) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	list, err := io.ReadAll(io.LimitReader(in, maxNames+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	if len(list) > maxNames {
		return fmt.Errorf("read %s: more than %d bytes", from, maxNames)
	}
	var aliases []string
	for _, name := range e.Modules {
		aliases = append(aliases, r.modules.byName[name].info.aliases...)
	}
	return t.AddData(f.Name, matchable(list, aliases), 0o644)
}

// The forms of an alias that names one device, as scripts/mod/file2alias.c of
// Linux writes them.
var (
	pciAlias    = regexp.MustCompile(`^pci:v0000([0-9A-F]{4})d0000([0-9A-F]{4})`)
	usbAlias    = regexp.MustCompile(`^usb:v([0-9A-F]{4})p([0-9A-F]{4})d`)
	anyAlias    = regexp.MustCompile(`^pci:v0000([0-9A-F]{4})d\*sv\*sd\*bc\*sc\*i\*$`) // all that a vendor makes: virtio_pci's
	virtioAlias = regexp.MustCompile(`^virtio:d0000([0-9A-F]{4})v`)
)

// virtio devices are vendor 1af4, and on PCI their type is added to 0x1040
// (Virtual I/O Device Version 1.2, 4.1.2.1).
const (
	virtioVendor = "1af4"
	virtioPCI    = 0x1040
)

// anyDevice stands for every device of a vendor.
const anyDevice = "*"

// named are the devices that aliases name, as "vendor device" in the lists'
// digits, and the vendors among them.
func named(aliases []string) map[string]bool {
	out := map[string]bool{}
	for _, a := range aliases {
		for _, form := range []*regexp.Regexp{pciAlias, usbAlias} {
			if m := form.FindStringSubmatch(a); m != nil {
				vendor, device := strings.ToLower(m[1]), strings.ToLower(m[2])
				out[vendor], out[vendor+" "+device] = true, true
			}
		}
		if m := anyAlias.FindStringSubmatch(a); m != nil {
			vendor := strings.ToLower(m[1])
			out[vendor], out[vendor+" "+anyDevice] = true, true
		}
		if m := virtioAlias.FindStringSubmatch(a); m != nil {
			n, _ := strconv.ParseUint(m[1], 16, 16)
			out[virtioVendor], out[virtioVendor+fmt.Sprintf(" %04x", n+virtioPCI)] = true, true
		}
	}
	return out
}

// matchable reduces a list of the form of pci.ids and usb.ids to the devices
// that aliases name, their vendors, and the classes, by which others go.
// Comments go, the list's version stays.
func matchable(list []byte, aliases []string) []byte {
	want := named(aliases)
	var out bytes.Buffer
	sc := bufio.NewScanner(bytes.NewReader(list))
	sc.Buffer(nil, maxNames)
	vendor, keep := "", false
	for sc.Scan() {
		line := sc.Text()
		word, _, _ := strings.Cut(strings.TrimLeft(line, "\t"), " ")
		switch {
		case strings.HasPrefix(line, "#"):
			if strings.Contains(line, "Version:") {
				out.WriteString(line + "\n")
			}
		case strings.HasPrefix(line, "\t"):
			if vendor == "" && keep || vendor != "" && !strings.HasPrefix(line, "\t\t") && (want[vendor+" "+word] || want[vendor+" "+anyDevice]) {
				out.WriteString(line + "\n")
			}
		case len(word) == 4:
			if vendor = word; want[vendor] {
				out.WriteString(line + "\n")
			}
		default:
			vendor, keep = "", word == "C"
			if keep {
				out.WriteString(line + "\n")
			}
		}
	}
	return out.Bytes()
}
