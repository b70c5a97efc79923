package drivers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Loader puts modules into the running kernel.
type Loader struct {
	x    *Index
	deny map[string]bool     // never by alias
	opts map[string][]string // module → its parameters

	mu   sync.Mutex
	done map[string]error // every module tried, with its result
	told map[string]bool  // every device that Tell has spoken of
}

// NewLoader makes a Loader on x. cmdline is the kernel's: it may carry module
// parameters (e1000.debug=1) and more names to deny
// (modprobe.blacklist=a,b), as modprobe(8) reads them.
func NewLoader(x *Index, cmdline string) *Loader {
	l := &Loader{x: x, deny: map[string]bool{}, opts: map[string][]string{}, done: map[string]error{}, told: map[string]bool{}}
	for _, name := range denied() {
		l.deny[name] = true
	}
	for _, word := range strings.Fields(cmdline) {
		module, param, ok := strings.Cut(word, ".")
		if !ok || module == "" || strings.Contains(module, "=") {
			continue
		}
		if list, ok := strings.CutPrefix(word, "modprobe.blacklist="); ok {
			for name := range strings.SplitSeq(list, ",") {
				l.deny[normalize(name)] = true
			}
			continue
		}
		m := normalize(module)
		l.opts[m] = append(l.opts[m], param)
	}
	return l
}

// denied are modules that devices ask for and a node is better off without.
func denied() []string {
	return []string{
		"floppy", // acpi:PNP0700 is on every PC board; probing an absent drive takes seconds
		"pcspkr", // noise
		// A watchdog that nobody feeds would reset the node half-way.
		"iTCO_wdt", "i6300esb", "sp5100_tco", "wdat_wdt",
		// A mode switch blanks the console.
		"nouveau", "amdgpu", "radeon", "i915",
		"firewire_ohci", // DMA for whoever plugs in
	}
}

// Load loads the modules that name stands for, what they need first, and
// returns those that weren't in the kernel before. The deny list doesn't
// count: who names a module wants it.
func (l *Loader) Load(name string) ([]string, error) {
	return l.load(name, false)
}

// LoadWith is Load with parameters for the module itself.
func (l *Loader) LoadWith(name string, params []string) ([]string, error) {
	l.mu.Lock()
	for _, n := range l.x.Lookup(name) {
		l.opts[n] = append(l.opts[n], params...)
	}
	l.mu.Unlock()
	return l.load(name, false)
}

// LoadAlias is Load for what a device asks for.
func (l *Loader) LoadAlias(modalias string) ([]string, error) {
	return l.load(modalias, true)
}

func (l *Loader) load(name string, byDevice bool) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := l.x.Lookup(name)
	if len(names) == 0 {
		return nil, fmt.Errorf("load %q: %w", name, ErrNotFound)
	}
	var loaded []string
	var errs []error
	for _, n := range names {
		if byDevice && l.deny[n] {
			continue
		}
		got, err := l.insert(n, nil)
		loaded = append(loaded, got...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return loaded, errors.Join(errs...)
}

// insert loads one module after what it needs. chain holds the modules being
// loaded for its sake, against circles.
func (l *Loader) insert(name string, chain []string) (loaded []string, err error) {
	if err, ok := l.done[name]; ok {
		return nil, err
	}
	if slices.Contains(chain, name) {
		return nil, nil
	}
	file, ok := l.x.files[name]
	if !ok {
		if l.x.builtin[name] {
			return nil, nil
		}
		return nil, fmt.Errorf("load module %s: %w", name, ErrNotFound)
	}
	if live(name) {
		l.done[name] = nil
		return nil, nil
	}
	chain = append(chain, name)
	loaded = l.soft(l.x.pre[name], chain)
	for _, dep := range slices.Backward(l.x.deps[name]) {
		got, err := l.insert(dep, chain)
		loaded = append(loaded, got...)
		if err != nil {
			l.done[name] = fmt.Errorf("load module %s, needed by %s: %w", dep, name, err)
			return loaded, l.done[name]
		}
	}
	fresh, err := l.finit(name, file)
	l.done[name] = err
	if err != nil {
		return loaded, err
	}
	if fresh {
		loaded = append(loaded, name)
	}
	return append(loaded, l.soft(l.x.post[name], chain)...), nil
}

// soft loads what a module would like to have. Its names are often aliases
// (ext4 asks for crypto-crc32c), and it isn't an error if none is there.
func (l *Loader) soft(names, chain []string) (loaded []string) {
	for _, n := range names {
		for _, m := range l.x.Lookup(n) {
			got, _ := l.insert(m, chain)
			loaded = append(loaded, got...)
		}
	}
	return loaded
}

// moduleInitCompressedFile is MODULE_INIT_COMPRESSED_FILE of linux/module.h:
// the kernel unpacks .ko.xz, .ko.gz, .ko.zst itself.
const moduleInitCompressedFile = 4

// finit hands the file to the kernel; fresh is false if it was there already.
func (l *Loader) finit(name, file string) (fresh bool, err error) {
	path := file
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.x.dir, file)
	}
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("load module %s: %w", name, err)
	}
	defer f.Close()
	flags := 0
	if filepath.Ext(path) != ".ko" {
		flags = moduleInitCompressedFile
	}
	switch err := unix.FinitModule(int(f.Fd()), strings.Join(l.opts[name], " "), flags); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EEXIST): // loaded by somebody else meanwhile
		return false, nil
	default:
		return false, fmt.Errorf("load module %s from %s: %w", name, path, err)
	}
}

// live says whether the kernel has the module already.
func live(name string) bool {
	b, err := os.ReadFile(filepath.Join("/sys/module", name, "initstate"))
	return err == nil && strings.TrimSpace(string(b)) == "live"
}

// Release is the running kernel's name, as under /lib/modules.
func Release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("ask for the kernel's release: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// OpenRunning is a Loader for the running kernel, with the modules under /.
func OpenRunning() (*Loader, error) {
	release, err := Release()
	if err != nil {
		return nil, err
	}
	x, err := Open("/", release)
	if err != nil {
		return nil, err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the kernel command line: %w", err)
	}
	return NewLoader(x, string(cmdline)), nil
}

// Index is the table that l loads from.
func (l *Loader) Index() *Index { return l.x }
