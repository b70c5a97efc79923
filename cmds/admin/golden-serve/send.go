package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/trust"
)

func sendCommand() *cobra.Command { return new(sendFlags).command() }

func (o *sendFlags) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "send -n N PATH",
		Short: "Send a file, a device, a folder, or - for standard input, to N receivers (karecv)",
		Long: "Send a file, a device, a folder, or - for standard input, to N receivers, and nothing else:\n\n" +
			"  golden-serve send -n 4 -s demo big.iso        here\n" +
			"  karecv -s demo --out big.iso                  on four hosts\n\n" +
			"--image DIR sends the files of a saved image in place of a path (golden-serve save).\n\n" +
			"The receivers need two files of this host's key folder, " + trust.PinFile + " and " + trust.TokenFile + ".\n\n" +
			"Machines that boot stage 1 from a server of yours, with ka.run=ram on the boot line, receive too, and run\n" +
			"the folder or image in their memory; they have no token, so give --open. golden-serve run boots them itself.\n",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.profiled(func() error { return o.send(cmd.Context(), args) })
		},
	}
	c.Flags().SortFlags = false
	o.add(c.Flags())
	o.image.add(c.Flags())
	o.addSnapshot(c.Flags(), "off")
	c.Flags().BoolVar(&o.open, "open", false, "let in receivers that have no join token: whoever is on this network and knows the session's name")
	return c
}

type sendFlags struct {
	common
	image imageFlags
	open  bool
}

// source is what is sent.
type source interface {
	chain.Source
	Close() error
}

func (o *sendFlags) send(ctx context.Context, args []string) error {
	cfg, src, err := o.prepare(ctx, args)
	if err != nil {
		return err
	}
	defer src.Close()
	v := newView(o.verbose)
	cfg.Watch, cfg.Log = v.watch, v.log
	r, err := golden.Run(ctx, golden.RunConfig{Config: cfg, Source: src, Open: o.open})
	v.stop()
	return o.concludeSend(r, err)
}

// prepare opens a path, or what a saved image has.
func (o *sendFlags) prepare(ctx context.Context, args []string) (golden.Config, source, error) {
	switch err := o.image.check(); {
	case err != nil:
		return golden.Config{}, nil, err
	case o.image.dir == "" && len(args) == 1:
		return o.prepareSend(ctx, args[0])
	case o.image.dir == "" || len(args) > 0:
		return golden.Config{}, nil, errors.New("send: want a path, or - for standard input, or --image DIR with a saved image")
	}
	return o.prepareSource(true, func(golden.Config, bool) (source, error) {
		return golden.OpenSaved(o.image.dir, o.image.name)
	})
}

// prepareSend opens what is to be sent, and finds what is wrong before anybody
// comes.
func (o *common) prepareSend(ctx context.Context, path string) (golden.Config, source, error) {
	again := path != "-" // standard input can't be read again
	return o.prepareSource(again, func(cfg golden.Config, snapshot bool) (source, error) {
		return openSource(ctx, path, snapshot, cfg)
	})
}

func (o *common) prepareSource(again bool, open func(cfg golden.Config, snapshot bool) (source, error)) (golden.Config, source, error) {
	cfg, err := o.config()
	if err != nil {
		return cfg, nil, err
	}
	token, err := trust.LoadOrCreateToken(trust.Dir())
	if err != nil {
		return cfg, nil, err
	}
	snapshot, err := o.wantsSnapshot()
	if err != nil {
		return cfg, nil, err
	}
	src, err := open(cfg, snapshot)
	if err != nil {
		return cfg, nil, err
	}
	if cfg.Token = token; again {
		if err := o.takeUp(&cfg, src, token, nil); err != nil {
			src.Close()
			return cfg, nil, err
		}
	}
	return cfg, src, nil
}

func (o *common) concludeSend(r golden.Result, err error) error {
	r.Touched = r.Bytes > 0
	return o.finish(r, err)
}

func openSource(ctx context.Context, path string, snapshot bool, cfg golden.Config) (source, error) {
	if path == "-" {
		return spool(os.Stdin)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		t, err := golden.Scan(ctx, stream.ScanOptions{Root: path, Log: cfg.Log}, snapshot)
		if err != nil {
			return nil, err
		}
		t.Spool = spoolDir(cfg.Log)
		return t, nil
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
