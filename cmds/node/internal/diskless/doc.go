// Package diskless makes a machine run in its memory what golden sends: it
// receives it there, lays a writable layer over it where it is an image, and
// makes it a machine of its own. It has nothing to do with the disks, but that
// swap areas on them are used where the boot line asks for that.
//
//	Open ──▶ Sink ──▶ Mount ──▶ Become ──▶ Init ──▶ the new root's own init
//	 │       tree ─▶ tmpfs          │
//	 │       squashfs, ext ─▶ tmpfs ─ loop ─ overlay
//	 └─ not enough memory           └─ name, node_id, keys, network, rendered files
package diskless
