package templates

import (
	_ "embed"
	"fmt"
	"io"
	"text/template"
)

//go:embed netboot/pxelinux.cfg.tmpl
var pxelinuxText string

// PXELinux fills the configuration that golden-serve answers PXELINUX with.
type PXELinux struct {
	Default string // label that is booted: "local" or "kamethod"
	Image   bool   // whether label kamethod is there at all
	Serial  bool   // talk on the first serial port too
	Words   string // further kernel words
}

// WritePXELinux writes one machine's PXELINUX configuration. SYSAPPEND 2
// lets stage 1 know the interface that booted (BOOTIF=01-MAC). TIMEOUT is in
// tenths of a second and counts at the prompt only, where PXELINUX lands when
// a transfer failed or Caps Lock was left on: it then boots the default again.
// NOESCAPE would try again without any pause.
func WritePXELinux(w io.Writer, p PXELinux) error {
	t, err := template.New("pxelinux.cfg").Parse(pxelinuxText)
	if err != nil {
		return fmt.Errorf("parse pxelinux.cfg template: %w", err)
	}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("write pxelinux.cfg: %w", err)
	}
	return nil
}
