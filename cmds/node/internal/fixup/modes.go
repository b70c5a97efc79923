package fixup

import (
	"context"
	"fmt"
	"slices"

	"github.com/kamethod/kamethod/golden/wire"
)

// checkMode refuses words that mean nothing here: a clone must not become
// something else than what was asked for.
func checkMode(id wire.Identity) error {
	switch id.Mode {
	case "", wire.IdentityClone, wire.IdentitySame, wire.IdentityTemplate:
	default:
		return fmt.Errorf("identity %q: want %s, %s or %s", id.Mode, wire.IdentityClone, wire.IdentitySame, wire.IdentityTemplate)
	}
	for _, w := range id.Scrub {
		if w != wire.ScrubApps {
			return fmt.Errorf("scrub %q: want %s", w, wire.ScrubApps)
		}
	}
	return nil
}

// same: the golden machine's hardware is replaced, and it stays who it is.
func (e Env) same() bool { return e.Plan.Identity.Mode == wire.IdentitySame }

func (e Env) template() bool { return e.Plan.Identity.Mode == wire.IdentityTemplate }

func (e Env) scrubApps() bool {
	return e.template() || slices.Contains(e.Plan.Identity.Scrub, wire.ScrubApps)
}

// stepFunc is what a step does.
type stepFunc = func(context.Context, *clone, *StepReport) error

// own is a step that makes the clone another machine than the golden one.
func own(run stepFunc) stepFunc {
	return func(ctx context.Context, c *clone, rep *StepReport) error {
		if c.env.same() {
			rep.Skipped = "the golden node's identity is kept (--identity same)"
			return nil
		}
		return run(ctx, c, rep)
	}
}
