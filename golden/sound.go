package golden

import (
	"context"
	"log/slog"
	"time"
)

// verifier is a source that may have rotted, as a saved image may, and can tell
// that before anybody needs it.
type verifier interface {
	Verify(ctx context.Context, progress func(done, all int)) error
}

// sounding says how often the log tells how far a verification is.
const sounding = 10 * time.Second

// verify has what the clones get verified, beside what else goes on. No disk
// is touched before it has ended well; it ends with ctx.
func (d *deployment) verify(ctx context.Context) {
	if d.clone == nil {
		return
	}
	v, ok := d.clone.Tree.(verifier)
	if !ok {
		return
	}
	d.unsound = true
	d.tasks.Go(func() {
		err := v.Verify(ctx, tellSounding(d.Log))
		d.mu.Lock()
		defer d.mu.Unlock()
		defer d.poke()
		d.unsound = err != nil
		if err != nil && d.err == nil {
			d.err = err
		}
	})
}

// tellSounding logs how far it is, now and then and at the end.
func tellSounding(log *slog.Logger) func(done, all int) {
	told := time.Now()
	return func(done, all int) {
		if done == all || time.Since(told) > sounding {
			log.Info("comparing the pieces of the image with their hashes", "done", done, "of", all)
			told = time.Now()
		}
	}
}
