//go:build kamethod_trusting

package chain

// verify: see verify.go. scripts/mutation.sh builds this, and nothing else may.
const verify = false
