// Package saved keeps golden nodes in a folder: what a clone is made of, in
// pieces that are there once however often they occur, and for each image a
// manifest that is written last. It is a source for the chain like a machine
// that runs. It isn't what looks at a machine (package capture), it knows
// nothing of nodes, and it never looks into what the pieces hold, but to name
// the files that a broken one has a share in.
//
//	Source ─▶ streams ─▶ cut by contents ─▶ BLAKE3 ─▶ pieces/ab/ab12….zst
//	                                          └─▶ list ─▶ images/NAME.kaimage
//	images/NAME.kaimage ─▶ list ─▶ pieces ─▶ ReadPiece ─▶ chain
//
// docs/saved-images.md has the format.
package saved
