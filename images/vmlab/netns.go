package vmlab

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// namePrefix begins the name of every namespace of ours; the process that
// made it follows, so that what a killed process left behind can be told
// from what a running one uses.
const namePrefix = "kalab-"

var labsMade atomic.Int64

func freshName() string {
	return fmt.Sprintf("%s%d-%d", namePrefix, os.Getpid(), labsMade.Add(1))
}

// run runs a short program and puts what it said into the error.
func run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func makeNetwork(ctx context.Context, name string) error {
	if err := run(ctx, "ip", "netns", "add", name); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", Bridge, "type", "bridge"},
		// "brd +": without it there is no broadcast address, and a node
		// that looks for its server by broadcast never finds it.
		{"addr", "add", BridgeAddr.String(), "brd", "+", "dev", Bridge},
		{"-6", "addr", "add", bridgeAddr6.String(), "dev", Bridge, "nodad"},
		{"link", "set", Bridge, "up"},
		{"route", "add", "224.0.0.0/4", "dev", Bridge},
	} {
		if err := run(ctx, append([]string{"ip", "-n", name}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

func makeTap(ctx context.Context, namespace, tap string) error {
	for _, args := range [][]string{
		{"tuntap", "add", "dev", tap, "mode", "tap"},
		{"link", "set", tap, "master", Bridge, "up"},
	} {
		if err := run(ctx, append([]string{"ip", "-n", namespace}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// removeNetwork deletes the namespace, if there is one of that name; its
// bridge and taps go with it.
func removeNetwork(ctx context.Context, name string) error {
	if _, err := os.Stat("/run/netns/" + name); os.IsNotExist(err) {
		return nil
	}
	return run(ctx, "ip", "netns", "delete", name)
}

// removeStale deletes the namespaces of processes that are gone.
func removeStale(ctx context.Context, log *slog.Logger) {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // no namespace was ever made
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), namePrefix)
		if !ours {
			continue
		}
		pid, err := strconv.Atoi(strings.SplitN(rest, "-", 2)[0])
		if err != nil || syscall.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		if err := removeNetwork(ctx, e.Name()); err != nil {
			log.Warn("remove a namespace that was left behind", "name", e.Name(), "err", err)
		}
	}
}
