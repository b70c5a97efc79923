package disk

import "github.com/kamethod/kamethod/golden/wire"

// geometry is what mke2fs makes of a partition, as far as it takes room.
type geometry struct {
	block, blocks     int64
	inodes, inodeSize int64
	explicit          bool  // more inodes than mke2fs would make
	journal           int64 // blocks
}

// guess computes mke2fs's choices for a partition of so many bytes, with the
// usage types of mke2fs.conf(5): "small" below 512 MiB, "big" from 4 TiB,
// "huge" from 16 TiB.
func guess(fs wire.Filesystem, bytes int64) geometry {
	g := geometry{block: 4096, inodeSize: 256}
	ratio := int64(16384)
	switch {
	case bytes < 512<<20:
		ratio, g.block = 4096, 1024
	case bytes >= 16<<40:
		ratio = 65536
	case bytes >= 4<<40:
		ratio = 32768
	}
	if fs.BlockSize > 0 {
		g.block = int64(fs.BlockSize)
	}
	if fs.InodeSize > 0 {
		g.inodeSize = int64(fs.InodeSize)
	}
	g.blocks = bytes / g.block
	g.inodes = bytes / max(ratio, g.block)
	if want := wantInodes(fs); want > g.inodes {
		g.inodes, g.explicit = want, true
	}
	if fs.Type != "ext2" {
		g.journal = journal(g.blocks)
	}
	return g
}

// wantInodes is how many the files need, with a tenth to spare for the
// clone's own life. Without a figure mke2fs's default has to do.
func wantInodes(fs wire.Filesystem) int64 {
	if fs.NeedInodes == 0 {
		return 0
	}
	return fs.NeedInodes + fs.NeedInodes/10 + 64
}

// journal is the default length of a journal in blocks
// (e2fsprogs, ext2fs_default_journal_size).
func journal(blocks int64) int64 {
	for _, step := range []struct{ below, journal int64 }{
		{2048, 0}, {32768, 1024}, {256 << 10, 4096}, {512 << 10, 8192}, {4096 << 10, 16384},
		{8192 << 10, 32768}, {16384 << 10, 65536}, {32768 << 10, 131072},
	} {
		if blocks < step.below {
			return step.journal
		}
	}
	return 262144
}

// usable is how many bytes are left for files: root may use the reserve, so
// that it counts.
func (g geometry) usable() int64 {
	perGroup := 8 * g.block // a bitmap is one block
	groups := (g.blocks + perGroup - 1) / perGroup
	// Descriptors of 64 bytes at most, and the blocks kept for growing
	// them, up to block/4 of them, in the groups with a copy: 0, 1 and the
	// powers of 3, 5 and 7 (sparse_super).
	table := (groups*64 + g.block - 1) / g.block
	table += min(table*1024, g.block/4)
	taken := groups*2 + (g.inodes*g.inodeSize+g.block-1)/g.block + g.journal + copies(groups)*(1+table)
	// The root folder, lost+found and such: 64 KiB at most.
	return (g.blocks-taken)*g.block - 64<<10
}

func copies(groups int64) int64 {
	n := min(groups, 2)
	for _, base := range []int64{3, 5, 7} {
		for g := base; g < groups; g *= base {
			n++
		}
	}
	return n
}
