//go:build !race

package doctor

// buildFlags has golden-serve built as it is delivered.
const buildFlags = "-race=false"
