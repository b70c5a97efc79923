package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/kamethod/kamethod/cmds/node/internal/agent"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
)

func run(ctx context.Context, stateFile, kmsg string, verbose bool, stderr io.Writer) error {
	state, err := handover.Load(stateFile)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	dir := filepath.Dir(stateFile)
	c, err := agent.Await(ctx, agent.Place{
		KeyFile: state.KeyFile, PinFile: state.PinFile, Server: state.Server, ServerFile: filepath.Join(dir, handover.ServerName),
	}, log)
	if err != nil {
		return err
	}
	a := agent.New(c)
	var wg sync.WaitGroup
	if kmsg != "" {
		wg.Go(func() { a.TellConsole(ctx, kmsg, filepath.Join(dir, handover.ConsoleName)) }) // ends with ctx
	}
	a.Run(ctx)
	wg.Wait()
	return nil
}
