package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/trust"
)

func sendCommand() *cobra.Command {
	var o common
	c := &cobra.Command{
		Use:   "send -n N PATH",
		Short: "Send a file, a device, a folder, or - for standard input, to N receivers (karecv)",
		Long: "Send a file, a device, a folder, or - for standard input, to N receivers, and nothing else:\n\n" +
			"  golden-serve send -n 4 -s demo big.iso        here\n" +
			"  karecv -s demo --out big.iso                  on four hosts\n\n" +
			"The receivers need two files of this host's key folder, " + trust.PinFile + " and " + trust.TokenFile + ".\n",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return send(cmd.Context(), &o, args[0]) },
	}
	c.Flags().SortFlags = false
	o.add(c.Flags())
	return c
}

// source is what is sent.
type source interface {
	chain.Source
	Close() error
}

func send(ctx context.Context, o *common, path string) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	if cfg.Token, err = trust.LoadOrCreateToken(trust.Dir()); err != nil {
		return err
	}
	src, err := openSource(ctx, path, cfg)
	if err != nil {
		return err
	}
	defer src.Close()
	cfg.Watch = newWatch(os.Stderr)
	r, err := golden.Send(ctx, cfg, src)
	r.Touched = r.Bytes > 0
	if t, ok := src.(*stream.Tree); ok {
		r.Notes = append(r.Notes, changed(t)...)
	}
	return o.finish(r, err)
}

// changed names the files that are torn: they moved while they were sent.
func changed(t *stream.Tree) []string {
	var out []string
	for _, c := range t.Changed() {
		what := "changed"
		if c.Gone {
			what = "went away"
		}
		out = append(out, fmt.Sprintf("%s %s while it was copied; the copies of it may be torn", c.Path, what))
	}
	return out
}

func openSource(ctx context.Context, path string, cfg golden.Config) (source, error) {
	if path == "-" {
		return spool(os.Stdin)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return stream.Scan(ctx, stream.ScanOptions{Root: path, Log: cfg.Log})
	}
	return stream.OpenImage(0, path)
}

// spool keeps standard input in a file that has no name: pieces must be there
// to be read again.
func spool(in io.Reader) (source, error) {
	f, err := os.CreateTemp("", "golden-serve-")
	if err != nil {
		return nil, fmt.Errorf("keep standard input: %w", err)
	}
	defer os.Remove(f.Name()) // the source has it open by then
	defer f.Close()
	if _, err := io.Copy(f, in); err != nil {
		return nil, fmt.Errorf("keep standard input in %s (TMPDIR names another place): %w", f.Name(), err)
	}
	return stream.OpenImage(0, f.Name())
}

func descCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "desc DISK",
		Short: "Print the desc of a disk, for -p",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := golden.Desc(args[0])
			if err == nil {
				fmt.Print(text)
			}
			return err
		},
	}
}
