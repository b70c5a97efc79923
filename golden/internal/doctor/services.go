package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// everyService asks golden-serve as a machine would, service by service.
func (e *exam) everyService(ctx context.Context, c *client, offers []offer) []Finding {
	out, files := e.answers(offers)
	tried := e.everyPort(ctx, c, offers, files)
	if ctx.Err() != nil { // what failed may have failed by that
		tried = append(slices.DeleteFunc(tried, func(f Finding) bool { return f.Severity != OK }), e.interrupted())
	}
	e.Log.Debug("asked every service", "findings", len(out)+len(tried))
	return append(out, tried...)
}

// everyPort asks from the address that the doctor was offered.
func (e *exam) everyPort(ctx context.Context, c *client, offers []offer, files []string) (out []Finding) {
	if ip, ok := e.address(offers); ok {
		if err := c.at(ip); err != nil {
			return append(out, Finding{"service.mute", Error, e.ifi.Name, err.Error(), ""})
		}
		if e.DHCP == netboot.DHCPProxy {
			out = append(out, e.port4011(ctx, c))
		}
		out = append(out, e.everyFile(ctx, c, append(files, "images/vmlinuz", "images/all.rdz"))...)
		out = append(out, e.tcp(ctx, c)...)
	} else {
		out = append(out, Finding{"service.untried", Note, e.ifi.Name, "TFTP and HTTP were not tried: there is no address to try them with", ""})
	}
	return append(out, e.http(ctx)...)
}

// everyFile reads files by TFTP, until the port is silent: then it is for all.
func (e *exam) everyFile(ctx context.Context, c *client, names []string) []Finding {
	var out []Finding
	for _, n := range names {
		f, silent := e.tftp(ctx, c, n)
		out = append(out, f)
		if silent {
			break
		}
	}
	return out
}

// address is one that a server has offered the doctor: nobody else has it.
func (e *exam) address(offers []offer) (netip.Addr, bool) {
	for _, o := range offers {
		if e.self.Contains(o.ip) {
			return o.ip, true
		}
	}
	return netip.Addr{}, false
}

// answers looks whether each kind of machine, for which there is a boot file,
// was offered it. files are those that were offered.
func (e *exam) answers(offers []offer) (out []Finding, files []string) {
	if e.DHCP == netboot.DHCPOff {
		return nil, e.present()
	}
	for i, q := range questions() {
		at := slices.IndexFunc(offers, func(o offer) bool { return o.q == i && e.ours(o) })
		if q.class == "" {
			if at < 0 && e.DHCP == netboot.DHCPFull {
				out = append(out, Finding{"service.dhcp", Error, "udp port 67", "golden-serve gives " + q.name + " no answer", e.whySilent(67)})
			}
			continue
		}
		if !e.configured(q) {
			continue // files.loader says so
		}
		if at < 0 || !offers[at].boots() {
			out = append(out, Finding{"service.dhcp", Error, "udp port 67", "golden-serve offers " + q.name + " no boot file", e.whySilent(67)})
			continue
		}
		name := offers[at].file
		out = append(out, Finding{"service.dhcp", OK, "udp port 67", fmt.Sprintf("%s is offered %s", q.name, name), ""})
		if !strings.Contains(name, "://") && !slices.Contains(files, name) {
			files = append(files, name)
		}
	}
	return out, files
}

// configured tells whether the table has a file for an architecture, and the
// TFTP root has the file.
func (e *exam) configured(q question) bool {
	return slices.ContainsFunc(netboot.BootFiles(), func(b netboot.BootFile) bool { return b.Arch == q.arch && e.bootable(b.File) })
}

// present are the boot files of the table that are there.
func (e *exam) present() []string {
	var out []string
	for _, b := range netboot.BootFiles() {
		if !b.Kernel && e.bootable(b.File) && !slices.Contains(out, b.File) {
			out = append(out, b.File)
		}
	}
	return out
}

// whySilent gives the likeliest reason why a port says nothing.
func (e *exam) whySilent(port int) string {
	if slices.ContainsFunc(e.services(), func(s service) bool { return s.port == port && e.rules.judge(e.arrival(s)).dropped }) {
		return "the firewall keeps it away: see port.blocked"
	}
	return "look whether golden-serve was started with this --interface and this --dhcp, and at the firewall (nft list ruleset, iptables -S)"
}

// port4011 asks as firmware does that has its address already.
func (e *exam) port4011(ctx context.Context, c *client) Finding {
	q := questions()[1]
	if !e.configured(q) {
		q = questions()[2]
	}
	f := Finding{"service.4011", Error, "udp port 4011", "", e.whySilent(4011)}
	m, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(netboot.DoctorMAC()),
		dhcpv4.WithClientIP(c.ip.AsSlice()))
	if err != nil {
		f.What = err.Error()
		return f
	}
	q.firmware(m)
	file := ""
	got, err := c.exchange(ctx, netip.AddrPortFrom(c.ip, 68), 4011, m.ToBytes(), func(p frame) bool {
		r, err := dhcpv4.FromBytes(p.payload)
		if err != nil || r.TransactionID != m.TransactionID || p.from.Port() != 4011 {
			return false
		}
		file = offerOf(r, p.from.Addr()).file
		return true
	})
	switch {
	case err != nil:
		f.What = err.Error()
	case got == refused:
		f.What = "refuses the question that UEFI firmware asks when it has its address"
	case got == silence:
		f.What = "says nothing to the question that UEFI firmware asks when it has its address"
	case file == "":
		f.What = "answers without a boot file"
	default:
		return Finding{f.ID, OK, f.Subject, fmt.Sprintf("%s that asks again is told %s", q.name, file), ""}
	}
	return f
}

// tcp opens the ports that nodes connect to.
func (e *exam) tcp(ctx context.Context, c *client) []Finding {
	var out []Finding
	for _, s := range e.services() {
		if s.proto != "tcp" || s.port != e.HTTPPort && s.port != e.Control {
			continue
		}
		f := Finding{"service.tcp", Error, s.String(), "", e.whySilent(s.port)}
		got, err := c.knock(ctx, uint16(s.port))
		switch {
		case err != nil:
			f.What = err.Error()
		case got == refused && s.port == e.Control && netboot.PortHolder(s.proto, s.port) == "":
			continue // the boot servers alone: a session isn't open
		case got == refused:
			f.What = "refuses nodes: nobody listens there, or the firewall rejects them"
		case got == silence:
			f.What = "gives nodes no answer: the firewall drops what they send"
		default:
			f = Finding{f.ID, OK, f.Subject, "takes connections of nodes", ""}
		}
		out = append(out, f)
	}
	return out
}

// httpTime is how long all files may take by HTTP.
const httpTime = 30 * time.Second

// http reads a boot file by the ways that firmware and iPXE use.
func (e *exam) http(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, httpTime)
	defer cancel()
	subject := fmt.Sprintf("tcp port %d", e.HTTPPort)
	var names []string
	for _, n := range append(e.present(), "images/vmlinuz", "images/all.rdz") {
		if e.has(n) {
			names = append(names, n)
		}
	}
	var out []Finding
	for _, n := range names {
		err := e.getHTTP(ctx, n)
		if err == nil {
			continue
		}
		f := Finding{"service.http", Error, subject, err.Error(), "look at golden-serve's messages (-v)"}
		var unreachable *unreachableError
		if errors.As(err, &unreachable) {
			f.Severity, f.Do = Note, "nothing, if service.tcp is ok: the port is bound to the interface, and this machine itself can't reach it"
			return append(out, f)
		}
		out = append(out, f)
	}
	if len(out) == 0 && len(names) > 0 {
		out = append(out, Finding{"service.http", OK, subject, fmt.Sprintf("%d files have the right size and ranges work", len(names)), ""})
	}
	return out
}

// unreachableError says that there was no connection.
type unreachableError struct{ err error }

func (u *unreachableError) Error() string { return u.err.Error() }
func (u *unreachableError) Unwrap() error { return u.err }

// getHTTP compares HEAD and the last bytes of a file with the file itself.
func (e *exam) getHTTP(ctx context.Context, name string) error {
	f, err := os.Open(filepath.Join(e.TFTPRoot, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return err
	}
	url := fmt.Sprintf("http://%s/%s", netip.AddrPortFrom(e.self.Addr(), uint16(e.HTTPPort)), name)
	head, err := fetch(ctx, http.MethodHead, url, "")
	if err != nil {
		return err
	}
	if head.StatusCode != http.StatusOK || head.ContentLength != i.Size() {
		return fmt.Errorf("HEAD %s: status %d and %d bytes, want 200 and %d", url, head.StatusCode, head.ContentLength, i.Size())
	}
	from := max(0, i.Size()-1000)
	part, err := fetch(ctx, http.MethodGet, url, fmt.Sprintf("bytes=%d-", from))
	if err != nil {
		return err
	}
	want := make([]byte, i.Size()-from)
	if _, err := f.ReadAt(want, from); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if part.StatusCode != http.StatusPartialContent || !bytes.Equal(part.body, want) {
		return fmt.Errorf("GET %s from byte %d: status %d and other bytes than the file has (%d of %d)", url, from, part.StatusCode, len(part.body), len(want))
	}
	return nil
}

type response struct {
	*http.Response
	body []byte
}

func fetch(ctx context.Context, method, url, ranges string) (response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return response{}, err
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	client := http.Client{Timeout: slowTime, Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	r, err := client.Do(req)
	if err != nil {
		return response{}, &unreachableError{err}
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	return response{r, b}, err
}
