package netboot

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// withFiles is a server without sockets that has these files.
func withFiles(t *testing.T, names string, change func(*Config)) *Server {
	t.Helper()
	s := offWire(t, DHCPFull, nil2local)
	s.cfg.Files = Files{}
	for n := range strings.FieldsSeq(names) {
		s.cfg.Files[n] = func() (Content, error) { return memory{bytes.NewReader([]byte("x"))}, nil }
	}
	if change != nil {
		change(&s.cfg)
	}
	return s
}

func TestBootFileOfEachFirmware(t *testing.T) {
	const all = "pxelinux.0 lpxelinux.0 ldlinux.c32 shimx64.efi grubx64.efi snponly.efi ipxe.efi undionly.kpxe images/vmlinuz images/all.rdz"
	const http = "http://10.77.0.1:8069/"
	const script = "boot.ipxe-01-52-54-00-77-00-01"
	withHTTP := []byte{0xb1, 1, 5, ipxeFeatureHTTP, 1, 1, 0x24, 1, 1}
	for _, tt := range []struct {
		name    string
		arch    iana.Arch
		class   string
		ipxe    []byte // option 175
		files   string
		change  func(*Config)
		file    string // empty: no boot information
		prefix  string
		offer43 bool
	}{
		{name: "BIOS", arch: 0, file: "lpxelinux.0", prefix: http, offer43: true},
		{name: "BIOS, pxelinux only", arch: 0, files: "pxelinux.0", file: "pxelinux.0", offer43: true},
		{name: "BIOS, no HTTP", arch: 0, change: func(c *Config) { c.HTTPPort = -1 }, file: "lpxelinux.0", offer43: true},
		{name: "BIOS, named", arch: 0, change: func(c *Config) { c.BootFiles = bios("pxelinux.0") }, file: "pxelinux.0", offer43: true},
		{name: "x64", arch: 7, file: "shimx64.efi", offer43: true},
		{name: "x64 beside another server", arch: 7, change: func(c *Config) { c.DHCP = DHCPProxy }, file: "snponly.efi", offer43: true},
		{name: "x64 beside another server, GRUB only", arch: 7, files: "shimx64.efi grubx64.efi", change: func(c *Config) { c.DHCP = DHCPProxy }, file: "shimx64.efi", offer43: true},
		{name: "x64 as byte code", arch: 9, file: "shimx64.efi", offer43: true},
		{name: "x64, shim without GRUB", arch: 7, files: "shimx64.efi snponly.efi", file: "snponly.efi", offer43: true},
		{name: "x64, GRUB alone", arch: 7, files: "grubx64.efi", file: "grubx64.efi", offer43: true},
		{name: "x64, never 43", arch: 7, change: func(c *Config) { c.Option43 = Option43Never }, file: "shimx64.efi"},
		{name: "HTTP", arch: 16, class: "HTTPClient", file: http + "snponly.efi"},
		{name: "HTTP, always 43", arch: 16, class: "HTTPClient", change: func(c *Config) { c.Option43 = Option43Always }, file: http + "snponly.efi"},
		{name: "HTTP, shim only", arch: 16, class: "HTTPClient", files: "shimx64.efi grubx64.efi"},
		{name: "HTTP, shim named", arch: 16, class: "HTTPClient", change: func(c *Config) { c.BootFiles = map[iana.Arch]string{16: "shimx64.efi"} }, file: http + "shimx64.efi"},
		{name: "HTTP switched off", arch: 16, class: "HTTPClient", change: func(c *Config) { c.HTTPPort = -1 }},
		{name: "iPXE on BIOS", arch: 0, ipxe: withHTTP, file: http + script, offer43: true},
		{name: "iPXE on UEFI", arch: 7, ipxe: withHTTP, file: http + script, offer43: true},
		{name: "iPXE, another loader named", arch: 0, ipxe: withHTTP, change: func(c *Config) { c.BootFiles = bios("pxelinux.0") }, file: "pxelinux.0", offer43: true},
		{name: "iPXE, itself named", arch: 0, ipxe: withHTTP, change: func(c *Config) { c.BootFiles = bios("undionly.kpxe") }, file: http + script, offer43: true},
		{name: "iPXE without HTTP", arch: 0, ipxe: []byte{0x24, 1, 1}, file: "lpxelinux.0", prefix: http, offer43: true},
		{name: "iPXE without HTTP, loaded by us", arch: 0, ipxe: []byte{0x24, 1, 1}, files: "undionly.kpxe", file: script, offer43: true},
		{name: "iPXE, HTTP switched off", arch: 7, ipxe: withHTTP, files: "snponly.efi", change: func(c *Config) { c.HTTPPort = -1 }, file: script, offer43: true},
		{name: "iPXE, broken option", arch: 0, ipxe: []byte{0x13, 200, 1}, file: "lpxelinux.0", prefix: http, offer43: true},
		{name: "arm64 without files", arch: 11},
		{name: "arm64", arch: 11, files: "shimaa64.efi grubaa64.efi", file: "shimaa64.efi", offer43: true},
		{name: "Raspberry Pi", arch: 41},
		{name: "Raspberry Pi, named", arch: 41, files: "start.elf", change: func(c *Config) { c.BootFiles = map[iana.Arch]string{41: "start.elf"} }, file: "start.elf"},
		{name: "unknown class", arch: 0, class: "MSFT 5.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.files == "" {
				tt.files = all
			}
			if tt.class == "" {
				tt.class = "PXEClient"
			}
			s := withFiles(t, tt.files, tt.change)
			m := pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptClientArch(tt.arch)),
				dhcpv4.WithOption(dhcpv4.OptClassIdentifier(tt.class+":Arch:00000:UNDI:003000")))
			m.Options.Del(dhcpv4.OptionUserClassInformation)
			if tt.ipxe != nil {
				m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")))
				m.UpdateOption(dhcpv4.OptGeneric(optIPXE, tt.ipxe))
			}
			c, archs, _ := clientOf(m)
			r, err := dhcpv4.New()
			if err != nil {
				t.Fatal(err)
			}
			if ok := s.bootOptions(r, m, c, archs); ok != (tt.file != "") {
				t.Fatalf("boot information: %v", ok)
			}
			if r.BootFileName != tt.file || r.BootFileNameOption() != tt.file {
				t.Errorf("file %q, option 67 %q, want %q", r.BootFileName, r.BootFileNameOption(), tt.file)
			}
			if tt.file == "" {
				return
			}
			if r.ClassIdentifier() != tt.class || !r.ServerIPAddr.Equal(net.IPv4(10, 77, 0, 1)) {
				t.Errorf("class %q, server %v", r.ClassIdentifier(), r.ServerIPAddr)
			}
			if got := string(r.Options.Get(dhcpv4.OptionPXELinuxPathPrefix)); got != tt.prefix {
				t.Errorf("option 210 %q, want %q", got, tt.prefix)
			}
			if got := r.Options.Has(dhcpv4.OptionVendorSpecificInformation); got != tt.offer43 {
				t.Errorf("option 43: %v", got)
			}
			if n := len(r.ToBytes()); n > dhcpMinMaxSize {
				t.Errorf("reply of %d bytes", n)
			}
		})
	}
}

// U-Boot and petitboot read PXELINUX's configurations themselves. They count
// where their processor's kernel is.
func TestFirmwareWithoutBootFile(t *testing.T) {
	s := withFiles(t, "pxelinux.0 images/vmlinuz images/all.rdz images/arm64/vmlinuz images/arm64/all.rdz", func(c *Config) {
		c.Decide = func(Client) Answer { return BootImage }
	})
	m := pxe(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptClientArch(iana.UBOOT_ARM64)))
	m.Options.Del(dhcpv4.OptionUserClassInformation)
	c, archs, _ := clientOf(m)
	r, err := dhcpv4.New()
	if err != nil {
		t.Fatal(err)
	}
	if !s.bootOptions(r, m, c, archs) || r.BootFileName != "" ||
		string(r.Options.Get(dhcpv4.OptionPXELinuxConfigFile)) != "pxelinux.cfg/01-52-54-00-77-00-01" {
		t.Errorf("want only a configuration, got %v", r.Summary())
	}
	s.seen.put(c, true)
	for name, want := range map[string]string{"pxelinux.cfg/01-52-54-00-77-00-01": "KERNEL images/arm64/vmlinuz", "pxelinux.cfg/default-arm-bcm283x-rpi": "DEFAULT local"} {
		got, err := s.lookup(name, addr("10.77.0.60"))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(got.content); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s: want %q, got\n%s", name, want, &b)
		}
	}
	if text := string(s.configText(forPXELINUX, c, BootImage)); !strings.Contains(text, " BOOTIF=01-52-54-00-77-00-01\n") {
		t.Errorf("U-Boot isn't told the interface:\n%s", text)
	}
	// Of a processor without kernel a machine boots its disk.
	c.Arch = iana.UBOOT_ARM32
	s.seen.put(c, true)
	if _, a, _, ok := s.bootConfig(forPXELINUX, "01-52-54-00-77-00-01", Client{}); !ok || a != LocalBoot {
		t.Errorf("an arm machine is told %v", a)
	}
}

func TestConfigNames(t *testing.T) {
	s := withFiles(t, "shimx64.efi grubx64.efi images/vmlinuz images/all.rdz", func(c *Config) {
		c.Append = "ka.server=10.77.0.1 ka.token=abc x='y'"
		c.Decide = func(c Client) Answer { return map[byte]Answer{1: BootImage, 2: LocalBoot}[c.MAC[5]] }
	})
	for i := range 3 {
		s.seen.put(Client{MAC: hw(byte(i + 1))}, true)
	}
	get := func(name string) string {
		f, err := s.lookup(name, addr("10.77.0.60"))
		if err != nil {
			return ""
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(f.content); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, name := range []string{"/grub/grub.cfg-01-52-54-00-77-00-01", "grub.cfg-01-52-54-00-77-00-01", "/grub/grub.cfg-01-52:54:00:77:00:01",
		"EFI/BOOT/grub.cfg-52-54-00-77-00-01", "boot/grub2/grub.cfg-52:54:00:77:00:01"} {
		if got := get(name); !strings.Contains(got, "linux /images/vmlinuz automatic=method:ka,network:dhcp rw kamethod ka.server=10.77.0.1 ka.token=abc 'x='\\''y'\\''' BOOTIF=01-52-54-00-77-00-01\ninitrd /images/all.rdz\nboot\n") {
			t.Errorf("%s:\n%s", name, got)
		}
	}
	for _, name := range []string{"boot.ipxe-01-52-54-00-77-00-01", "autoexec.ipxe-01-52-54-00-77-00-01"} {
		if got := get(name); !strings.HasPrefix(got, "#!ipxe\n") || !strings.Contains(got, "kernel /images/vmlinuz automatic=method:ka,network:dhcp rw kamethod ka.server=10.77.0.1 ka.token=abc x='y' BOOTIF=01-52-54-00-77-00-01 initrd=stage1 || goto failed\n") {
			t.Errorf("%s:\n%s", name, got)
		}
	}
	for name, want := range map[string]string{
		"boot.ipxe-01-52-54-00-77-00-02": "chain /grubx64.efi ||\nexit 1\n", "grub/grub.cfg-01-52-54-00-77-00-02": "exit 1\n",
		"grub/grub.cfg": "configfile /grub/grub.cfg-01-$net_default_mac\n", "arm64-efi/autoexec.ipxe": "exit 1\n", // a stranger
	} {
		if got := get(name); !strings.Contains(got, want) || strings.Contains(got, "token") || strings.Contains(got, "vmlinuz") {
			t.Errorf("%s: want %q, got\n%s", name, want, got)
		}
	}
	for _, name := range []string{"grub/grub.cfg-01-52-54-00-77-00-03", "boot.ipxe-01-52-54-00-77-00-03", // silent
		"grub/grub.cfg-0A4D", "grub/grub.cfgs", "etc/grub.cfg", "boot.ipxes", "grub/x86_64-efi/grub.cfg", "grub/x86_64-efi/command.lst",
		"grub/grub.cfg-01-0000.0000.0001", "boot.ipxe-"} {
		if got := get(name); got != "" {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

func TestLoaderChoices(t *testing.T) {
	files := Files{"pxelinux.0": nil}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Option43: "sometimes"}, `option 43 "sometimes": want auto, always or never`},
		{Config{BootFiles: map[iana.Arch]string{7: "../shim"}}, `boot file "../shim" of architecture 7: not in the TFTP root`},
		{Config{Append: "a || b"}, `kernel words: "||" would mean something to iPXE`},
		{Config{Append: "x=${net0/mac}"}, `kernel words: "x=${net0/mac}" would mean something to iPXE`},
		{Config{BootFiles: bios("pxelinux.0"), Option43: "never"}, ""},
	} {
		tt.cfg.Interface, tt.cfg.Files = "br0", files
		_, err := tt.cfg.withDefaults()
		if got := errorText(err); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
