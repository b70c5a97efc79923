package golden

import (
	"context"
	"fmt"
	"strings"

	"github.com/kamethod/kamethod/golden/chain"
)

// Send gives a source to so many receivers, and nothing else.
func Send(ctx context.Context, c Config, src chain.Source) (Result, error) {
	return alone(ctx, Job{Run: &RunConfig{Config: c, Source: src}})
}

func newSend(c Config, src chain.Source) (*deployment, error) {
	d := newDeployment(c)
	var err error
	d.tree, err = d.ferry("sending", src)
	return d, err
}

func (d *deployment) ferry(name string, src chain.Source) (*ferry, error) {
	digest, err := Digest(src)
	return &ferry{d: d, name: name, src: src, digest: digest}, err
}

// torn names the files of which no consistent version could be sent.
func (f *ferry) torn() []string {
	if t, ok := f.src.(interface{ Torn() []string }); ok {
		return t.Torn()
	}
	return nil
}

// tornText is that in one line, for the nodes.
func tornText(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(names[:few], "; "), len(names)-few)
}
