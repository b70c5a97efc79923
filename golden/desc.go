package golden

import (
	"context"
	"log/slog"

	"github.com/kamethod/kamethod/golden/internal/capture"
	"github.com/kamethod/kamethod/golden/internal/layoutfile"
)

// DescYAML describes a disk as a layout file; without one the running machine:
// all disks that it has files on, as a clone would get them.
func DescYAML(ctx context.Context, dev string, log *slog.Logger) (string, error) {
	if dev != "" {
		f, err := capture.DescribeLayout(ctx, dev)
		if err != nil {
			return "", err
		}
		return layoutfile.Print(f), nil
	}
	f, err := capture.LayoutFile(ctx, log)
	if err != nil {
		return "", err
	}
	return layoutfile.Print(f), nil
}
