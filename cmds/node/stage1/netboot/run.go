package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/nic"
	"github.com/kamethod/kamethod/golden/wire"
)

func run(ctx context.Context, w io.Writer, iface string, timeout time.Duration) error {
	cfg := nic.Config{
		Interface: iface, ResolvConf: "/etc/resolv.conf", Timeout: timeout,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if iface == "" {
		line, err := os.ReadFile("/proc/cmdline")
		if err != nil {
			return fmt.Errorf("read the kernel command line: %w", err)
		}
		p, _ := wire.ParseCmdline(string(line)) // init has said what is wrong with it
		cfg.Interface, cfg.BootIF = p.Interface, p.BootIF
	}
	lease, err := nic.Up(ctx, cfg)
	if err != nil {
		return err
	}
	for _, line := range lease.Lines() {
		fmt.Fprintln(w, line)
	}
	return nil
}
