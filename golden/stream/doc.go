// Package stream says what flows through the chain: a file tree as a manifest
// and the contents of its files, or one image. It reads the golden node's
// disk, and it is what a node understands a manifest with. It isn't the chain
// (that moves pieces and doesn't look into them), and it writes no file: the
// node's package restore does.
//
//	golden:  Scan ─▶ Tree ──stream 0── manifest ──▶ Decode   :node
//	         (walk)       ──stream 1── contents ──▶ Segments
//	       Settle ─▶ copies ─stream 2n── patch manifest ─▶ DecodePatch
//	                        ─stream 2n+1─ patch contents ─▶ Segments
//	         OpenImage ─▶ Image ──────── image
//
// # The manifest, version 2
//
// uvarint and varint are those of encoding/binary (LEB128, zigzag for varint).
// All names are bytes, not text.
//
//	offset  length  field
//	0       8       magic "kamtree\n"
//	8       2       version, little endian: 2
//	10      2       zero
//	12      ...     records, the last of which is an end record
//
// A record is uvarint n (the length of its body), then n bytes of body. The
// first byte of a body is its type:
//
//	'G'  group: uvarint index of a directory. The entries that follow, up to
//	     the next group, are its children, all of them, their names strictly
//	     ascending by bytes.
//	'd'  directory          'f'  regular file     'l'  symbolic link
//	'c'  character device   'b'  block device     'p'  fifo     's'  socket
//	'h'  hard link: another name of an earlier entry that is no directory
//	'E'  end: uvarint number of entries, uvarint bytes of contents
//
// Entries are numbered from 0 in the order they come. Entry 0 is the root, a
// directory without a name, before any group. A group names a directory that
// came before it and that had no group yet, so a parent always comes before
// its children, no name comes twice, and nothing can be the child of
// something that is no directory. A name is one component of 1 to 255 bytes
// without NUL or '/' and neither "." nor "..": so no path can leave the root,
// and a path may be longer than PATH_MAX.
//
// The body of an entry after its type:
//
//	uvarint length of the name, name
//	'h': uvarint own index minus target's index; nothing else
//	uvarint mode: the low 12 bits of st_mode
//	uvarint uid, uvarint gid: 32 bits
//	varint  seconds of mtime minus those of the entry before (hard links don't count)
//	uvarint nanoseconds of mtime, below 10^9
//	uvarint inode flags (FS_IOC_GETFLAGS), only those of FlagMask
//	uvarint project (FS_IOC_FSGETXATTR): 32 bits
//	uvarint xattr set: 0 none; k the k-th set of this manifest; one more
//	        than there are yet: a new one follows
//	   uvarint number of attributes, each: uvarint length of the name, name,
//	   uvarint length of the value, value; names strictly ascending
//	'f': uvarint size
//	     byte layout: 0 dense, one extent from 0 to size; 1 sparse:
//	       uvarint number of extents, each: uvarint gap to the end of the one
//	       before, uvarint length; then the same once more for ranges that are
//	       allocated but unwritten (they may overlap the first ones, and lie
//	       behind the end of the file)
//	     with data: varint offset in the contents stream, minus the end of the
//	       data of the file before
//	'l': uvarint length of the target (1 to 4095), target
//	'c', 'b': uvarint major, uvarint minor
//
// The contents stream is every file's extents, one after the other, at the
// file's offset; no two overlap, and nothing is between them. Nothing comes
// after the end record.
//
// A root with the file a, of 300 bytes, and its second name b:
//
//	6b 61 6d 74 72 65 65 0a  02 00  00 00   magic, version 2
//	0c  64 00  ed 03  00 00  c8 01 00  00 00 00
//	    the root: mode 0755, 0:0, mtime 100 s, no flags, no project, no xattrs
//	02  47 00
//	    the children of entry 0
//	11  66 01 61  a4 03  e8 07 00  01 05  00 00 00  ac 02 00 00
//	    entry 1, file "a": 0644, 1000:0, 1 s earlier and 5 ns, 300 bytes, dense,
//	    in the contents right after what was before
//	04  68 01 62  01
//	    entry 2, "b", a hard link to the entry one before
//	04  45 03  ac 02
//	    the end: 3 entries, 300 bytes of contents
//
// # The manifest of a patch, version 2
//
// Patch n, from 1, is files that have changed since the tree was scanned, each
// as it was at one later moment. Its manifest is stream 2n, its contents are
// stream 2n+1. What an 'f' or 'r' says of a file replaces all that the tree and
// the patches before said of it.
//
//	offset  length  field
//	0       8       magic "kampatch"
//	8       2       version, little endian: 2
//	10      2       zero
//	12      ...     records as above, the last of which is an end record
//
//	'f'  uvarint index of a regular file in the tree's manifest, then what the
//	     body of an 'f' has after the name; offsets are in the patch's contents,
//	     xattr sets are numbered anew
//	'r'  uvarint index: that name is gone
//	'w'  uvarint index; uvarint number of extents, extents and offset as in an
//	     'f': ranges of a file that is as it was, for those who lack them
//	'E'  as above: the number of records before, bytes of contents
//
// Indexes are strictly ascending. Other names of the same file (hard links)
// follow what is said of the one that isn't an 'h' in the tree's manifest.
//
// The version rises with every change that an older reader would get wrong; a
// reader refuses what it doesn't know.
package stream
