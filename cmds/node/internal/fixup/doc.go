// Package fixup makes the file system tree that was cloned onto a node's disks
// a machine of its own: its file systems under their new UUIDs, an identity
// that no other clone has, an initrd for this hardware, and, as the very last
// thing that is written, a boot loader.
//
// It doesn't partition, format or fill a disk, it doesn't mount the clone and
// it doesn't decide what the clone is called. It is an ordered list of steps,
// a file per step; a family of systems that does something differently (another
// initrd tool, another boot loader) is another case in that step's file.
//
//	/mnt/disk ─▶ fstab ─▶ storage ─▶ … ─▶ initrd ─▶ menu ─▶ boot loader ─▶ leftovers ─▶ Report
//	             └── text, through tree ──┘  └─ programs, through chroot ─┘  read only
package fixup
