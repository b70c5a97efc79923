//go:build race

package doctor

// buildFlags has golden-serve watched for races where the tests are.
const buildFlags = "-race"
