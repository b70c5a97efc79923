package main

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/kamethod/kamethod/cmds/node/internal/agent"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/golden/trust"
)

func run(ctx context.Context, stateFile, kmsg string, verbose bool, stderr io.Writer) error {
	state, err := handover.Load(stateFile)
	if err != nil {
		return err
	}
	pin, err := trust.ReadPin(state.PinFile)
	if err != nil {
		return err
	}
	id, err := trust.Load(state.KeyFile)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	a := agent.New(agent.Config{
		Server: state.Server, Golden: pin, Identity: id,
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	})
	var wg sync.WaitGroup
	if kmsg != "" {
		wg.Go(func() { a.TellConsole(ctx, kmsg, handover.Dir+"/console") }) // ends with ctx
	}
	a.Run(ctx)
	wg.Wait()
	return nil
}
