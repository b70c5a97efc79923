package capture

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// secrets reads the passphrases of the plan's encrypted containers: FILE is for
// all that have none of their own by NAME=FILE.
func (d *describer) secrets() ([]wire.Secret, error) {
	own, rest := map[string]string{}, ""
	for _, p := range d.opt.Passphrases {
		name, file, named := strings.Cut(p, "=")
		name = strings.TrimPrefix(strings.TrimPrefix(name, "/dev/"), "mapper/")
		switch {
		case !named && rest == "":
			rest = p
		case !named:
			return nil, fmt.Errorf("--luks-passphrase %s: another file is for all containers: give NAME=FILE", p)
		case name == "" || file == "" || own[name] != "":
			return nil, fmt.Errorf("--luks-passphrase %s: want FILE, or a container and its file: crypt=FILE, once each", p)
		case !slices.ContainsFunc(d.stack.Crypts, func(c layout.Crypt) bool { return c.Name == name }):
			return nil, fmt.Errorf("--luks-passphrase %s: the clones have no encrypted container %s", p, name)
		default:
			own[name] = file
		}
	}
	if len(d.stack.Crypts) == 0 && rest != "" {
		return nil, fmt.Errorf("--luks-passphrase %s: the clones have no encrypted container", rest)
	}
	var list []wire.Secret
	for _, c := range d.stack.Crypts {
		file := own[c.Name]
		if file == "" {
			file = rest
		}
		if file == "" {
			return nil, fmt.Errorf("container %s on %s: the clones' has a key of its own, and needs a passphrase: give --luks-passphrase FILE, or %s=FILE", c.Name, c.Device, c.Name)
		}
		pass, err := readPassphrase(file)
		if err != nil {
			return nil, err
		}
		list = append(list, wire.Secret{Crypt: c.Name, Passphrase: pass})
	}
	return list, nil
}

// readPassphrase is a file's first line.
func readPassphrase(file string) ([]byte, error) {
	f, err := os.Open(filepath.Clean(file))
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, wire.MaxPassphrase+2))
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err) // names the file
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r")) // of an editor on Windows: no keyboard enters it
	switch {
	case len(line) == 0:
		return nil, fmt.Errorf("passphrase %s: its first line is empty", file)
	case len(line) > wire.MaxPassphrase:
		return nil, fmt.Errorf("passphrase %s: its first line has more than %d bytes", file, wire.MaxPassphrase)
	}
	return bytes.Clone(line), nil
}
