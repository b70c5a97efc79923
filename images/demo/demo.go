package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

func demo(ctx context.Context) error {
	cfg, err := config()
	if err != nil {
		return err
	}
	result, err := rehearsal.Run(ctx, cfg)
	if result != nil && len(result.Nodes) > 0 {
		result.Print(os.Stdout)
	}
	// Removed, or kept on purpose or for the person who looks what went wrong.
	failed := err != nil && !errors.Is(err, context.Canceled)
	if os.Getenv("KEEP") == "1" {
		fmt.Println("\ndisks, consoles and logs are kept in", cfg.Work)
		return err
	}
	if failed {
		fmt.Println("\nconsoles and logs are kept in", cfg.Work)
	}
	return errors.Join(err, rehearsal.TidyUp(cfg.Work, failed))
}

func config() (rehearsal.Config, error) {
	cfg := rehearsal.Config{Kind: goldenroot.Full, Nodes: 2, Accel: os.Getenv("ACCEL"), Out: &locked{w: os.Stdout}}
	if k := os.Getenv("KIND"); k != "" {
		cfg.Kind = goldenroot.Kind(k)
	}
	switch f := vmlab.Firmware(os.Getenv("FIRMWARE")); f {
	case vmlab.BIOS, vmlab.UEFI, vmlab.SecureBoot:
		cfg.Firmware = f
	default:
		return cfg, fmt.Errorf("FIRMWARE=%s: must be %s or %s, or nothing for a BIOS", f, vmlab.UEFI, vmlab.SecureBoot)
	}
	if s := os.Getenv("NODES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 99 {
			return cfg, fmt.Errorf("NODES=%s: must be a number from 1 to 99", s)
		}
		cfg.Nodes = n
	}
	top, err := os.Getwd()
	if err != nil {
		return cfg, err
	}
	if _, err := os.Stat(filepath.Join(top, "images/all.rdz")); err != nil {
		return cfg, fmt.Errorf("the images aren't there, run make image first: %w", err)
	}
	cfg.Top = top
	// Not under /tmp: that may be a small file system in memory.
	cfg.Work, err = os.MkdirTemp("/var/tmp", "kamethod-demo-")
	return cfg, err
}

// locked lets several writers share the terminal, a write at a time.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
