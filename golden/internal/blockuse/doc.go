// Package blockuse finds out which blocks of a partition of the golden machine
// have to be sent: those that its file system uses, where partclone knows it,
// else those that aren't all zeros. It reads only. What is done with the
// answer, a stream.BlockMap, is package stream's business, and which partitions
// are copied as blocks is the plan's.
//
//	partition ──blkid──▶ type ─┬─ known ────▶ partclone --domain ─▶ log ─▶ used
//	    │                      ├─ ciphertext ──────────────────────▶ all ▶ raw
//	    └── in use? refused    └─ anything ──▶ read it once ───────────▶ nonzero
package blockuse
