// Package cook writes what golden-serve dolly sends: each stream to the disk,
// partition, file or folder that the plan names, as it is or unpacked. What
// comes as it is may come in any order; what is unpacked needs its pieces one
// after the other, so those that come early wait in memory, and those for
// which there is no room come again in the chain's next lap.
//
//	pieces ─Put─┬─ ">"  ────────────────────────────▶ restore.Image
//	            └─ ">>" ▶ feed (in order) ▶ decompress ▶ file, device
//	                                              └▶ unpack ▶ folder
//
// It asks nobody and partitions nothing. What may be unpacked where is checked
// by package archive's rules, and kept by os.Root besides.
package cook
