package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/templates"
)

const configExit = `
EXIT STATUS
  0    the files were printed, or written
  2    none was: usage, or what was said doesn't go together
`

// configFlags are those of clone_script where it had one.
type configFlags struct {
	site                              golden.Site
	iface, nodes, out                 string
	pxe, tftp, gateway, net, from, to string
	dns                               []string
	install                           bool
}

func configCommand() *cobra.Command {
	var o configFlags
	c := &cobra.Command{
		Use:   "config KIND...",
		Short: "Write configurations for DHCP and TFTP servers of your own",
		Long: "Write configurations for DHCP and TFTP servers of your own, which then boot machines in place of golden-serve's\n" +
			"(clone --dhcp off). KIND is " + strings.Join(golden.SiteKinds(), ", ") + " or all. They are printed,\n" +
			"or written below --out; nothing is installed or started. pxelinux is what the tree of make image needs\n" +
			"besides: what each machine of --nodes-file boots, and all others. What isn't said is as on this machine.\n" + configExit,
		Example: "  golden-serve config dhcpd -p 10.0.1.21 -w 10.0.1.253 -n 10.0.1 -s 10.0.1.253 -t 10.0.1.21\n" +
			"  golden-serve config dhcpd tftpd-hpa --install\n" +
			"  golden-serve config pxelinux --nodes-file nodes.yaml --out /srv/tftp\n",
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.OutOrStdout(), args) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.iface, "interface", "", "this machine's interface in that network; default: the only one with an address")
	f.StringVarP(&o.pxe, "pxe", "p", "", "address of this machine, which is the PXE server; default: the interface's")
	f.StringVarP(&o.gateway, "gateway", "w", "", "the machines' gateway; default: this one's, if it is in the network; none: there is none")
	f.StringVarP(&o.net, "net", "n", "", "the network, 10.0.1.0/24 or 10.0.1; default: the interface's")
	f.StringSliceVarP(&o.dns, "dns", "s", nil, "name servers; default: this machine's; none: there is none")
	f.StringVarP(&o.tftp, "tftp", "t", "", "address of the TFTP server (with vmlinuz and all.rdz); default: -p")
	f.BoolVarP(&o.install, "install", "I", false, "print the command that installs these servers, and nothing else")
	f.StringVar(&o.from, "from", "", "first address to lease; default: the network's upper half")
	f.StringVar(&o.to, "to", "", "last address to lease")
	f.StringVar(&o.site.Domain, "domain", "", "domain name; default: this machine's")
	f.StringVar(&o.nodes, "nodes-file", "", "YAML file with the machines: fixed addresses, names, labels, node_id")
	f.BoolVar(&o.site.Proxy, "proxy", false, "dnsmasq: beside another DHCP server, which gives the addresses")
	f.StringVar(&o.site.TFTPRoot, "tftp-root", "/srv/tftp", "folder of the TFTP server (images/tftp of make image, copied there)")
	f.StringVar(&o.site.Prefix, "prefix", "", "folder of PXELINUX and its files below --tftp-root, such as X86PC/linux")
	f.StringVar(&o.site.HTTP, "http", "", "URL of a web server with the same files, for firmware that boots by HTTP")
	f.StringVar(&o.site.Default, "label", templates.LabelLocal, "what machines boot that aren't in --nodes-file")
	f.StringVar(&o.site.Server, "server", "", "where stage 2 lies for the labels nfs, http and ftp; default: the TFTP server")
	f.StringVar(&o.site.Directory, "directory", "", "and in which folder: DIRECTORY/install/stage2/")
	f.StringVar(&o.site.Golden, "golden", "", "the golden node, HOST or HOST:PORT; default: machines look for it")
	f.StringVar(&o.site.Session, "session", "", "name of the session; default: that of golden-serve, kamethod")
	f.StringVar(&o.site.Console, "console", "console=tty0 console=ttyS0,115200", "kernel words for the nodes' consoles")
	f.StringVar(&o.out, "out", "", "write the files below this folder; what is there is kept as FILE.sav")
	return c
}

func (o *configFlags) run(w io.Writer, kinds []string) error {
	if len(kinds) == 0 {
		return fmt.Errorf("config of what? %s or all", strings.Join(golden.SiteKinds(), ", "))
	}
	if slices.Contains(kinds, "all") {
		kinds = golden.SiteKinds()
	}
	for _, k := range kinds {
		if !slices.Contains(golden.SiteKinds(), k) {
			return fmt.Errorf("config %q: want %s or all", k, strings.Join(golden.SiteKinds(), ", "))
		}
	}
	if o.install {
		_, err := fmt.Fprintln(w, strings.Join(golden.InstallLines(kinds, golden.Distribution()), "\n"))
		return err
	}
	if err := o.fill(); err != nil {
		return err
	}
	var list []golden.SiteFile
	for _, k := range kinds {
		files, err := o.site.Render(k)
		if err != nil {
			return err
		}
		list = append(list, files...)
	}
	if o.out == "" {
		return printFiles(w, list)
	}
	names, err := golden.WriteSite(o.out, list)
	for _, n := range names {
		fmt.Fprintln(w, n)
	}
	return err
}

// fill takes in the flags, and from this machine what they don't say.
func (o *configFlags) fill() error {
	s := &o.site
	var err error
	for _, a := range []struct {
		what, text string
		to         *netip.Addr
	}{{"-p", o.pxe, &s.PXE}, {"-t", o.tftp, &s.TFTP}, {"-w", none(o.gateway), &s.Gateway}, {"--from", o.from, &s.From}, {"--to", o.to, &s.To}} {
		if *a.to, err = parseAddr(a.what, a.text); err != nil {
			return err
		}
	}
	if o.net != "" {
		if s.Network, err = golden.ParseNetwork(o.net); err != nil {
			return err
		}
	}
	noDNS := len(o.dns) == 1 && o.dns[0] == "none"
	for _, text := range o.dns {
		if noDNS {
			break
		}
		a, err := parseAddr("-s", text)
		if err != nil {
			return err
		}
		s.DNS = append(s.DNS, a)
	}
	if err := golden.FillSite(s, o.iface); err != nil {
		return err
	}
	if o.gateway == "none" {
		s.Gateway = netip.Addr{}
	}
	if noDNS {
		s.DNS = nil
	}
	if o.nodes != "" {
		s.Nodes, err = golden.ReadNodes(o.nodes)
	}
	if s.Session != "" && strings.ContainsAny(s.Session, " \t") {
		return errors.Join(err, fmt.Errorf("session name %q: want one word", s.Session))
	}
	return err
}

func none(s string) string {
	if s == "none" {
		return ""
	}
	return s
}

// printFiles prints one file as it is, and several as head(1) does.
func printFiles(w io.Writer, list []golden.SiteFile) error {
	for i, f := range list {
		if len(list) > 1 {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "==> %s <==\n", f.Name)
		}
		if _, err := w.Write(f.Text); err != nil {
			return fmt.Errorf("print %s: %w", f.Name, err)
		}
	}
	return nil
}
