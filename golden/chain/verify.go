//go:build !kamethod_trusting

package chain

// verify is whether a node compares a piece with its hash. It does, in every
// build but the one that tests whether the tests would notice if it didn't.
const verify = true
