package console

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
)

// Warnings makes a log that writes to w, and its warnings and worse into the
// kernel's log besides: from there they get to golden. It is for programs that
// have a console of their own.
func Warnings(w io.Writer) *slog.Logger {
	h := slog.NewTextHandler(w, nil)
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return slog.New(h)
	}
	k := slog.New(slog.NewTextHandler(&Console{kmsg: f}, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: short}))
	return slog.New(both{h, k.Handler()})
}

// both gives a record to two handlers.
type both [2]slog.Handler

func (b both) Enabled(ctx context.Context, l slog.Level) bool {
	return b[0].Enabled(ctx, l) || b[1].Enabled(ctx, l)
}

func (b both) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, h := range b {
		if h.Enabled(ctx, r.Level) {
			errs = append(errs, h.Handle(ctx, r.Clone()))
		}
	}
	return errors.Join(errs...)
}

func (b both) WithAttrs(a []slog.Attr) slog.Handler {
	return both{b[0].WithAttrs(a), b[1].WithAttrs(a)}
}

func (b both) WithGroup(name string) slog.Handler {
	return both{b[0].WithGroup(name), b[1].WithGroup(name)}
}
