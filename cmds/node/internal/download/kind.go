package download

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"strings"
)

// Kind is what a node can mount for stage 2.
type Kind string

// The kinds, by the names of their file systems. Linux' ext4 reads ext2, as
// the manual's stage2.img was made, and ext3.
const (
	Squashfs Kind = "squashfs"
	Ext      Kind = "ext4"
)

// headSize is what KindOf looks at: an ISO 9660's name stands farthest off.
const headSize = 0x8001 + 5

// KindOf says what the image is and how many bytes it should have by its own
// word, and what else it is in the error.
func KindOf(r io.ReaderAt) (Kind, int64, error) {
	head := make([]byte, headSize)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", 0, fmt.Errorf("read the image: %w", err)
	}
	return kindOf(head[:n])
}

// Places in the superblocks: of squashfs (fs/squashfs/squashfs_fs.h, struct
// squashfs_super_block) and of ext2 (fs/ext4/ext4.h, struct
// ext4_super_block), which stands at byte 1024.
const (
	squashMajor = 28
	squashBytes = 40
	squashSuper = 96

	extSuper    = 1024
	extBlocks   = extSuper + 4
	extLogBlock = extSuper + 24
	extMagic    = extSuper + 56
)

func kindOf(head []byte) (Kind, int64, error) {
	le := binary.LittleEndian
	switch {
	case len(head) >= squashSuper && bytes.HasPrefix(head, []byte("hsqs")):
		if v := le.Uint16(head[squashMajor:]); v != 4 {
			return "", 0, fmt.Errorf("is a squashfs of version %d; the kernel mounts version 4 only", v)
		}
		size := le.Uint64(head[squashBytes:])
		if size < squashSuper || size > 1<<50 {
			return "", 0, fmt.Errorf("is a squashfs that claims %d bytes", size)
		}
		return Squashfs, int64(size), nil
	case len(head) >= 2*extSuper && le.Uint16(head[extMagic:]) == 0xef53:
		log := le.Uint32(head[extLogBlock:])
		if log > 6 { // EXT4_MAX_BLOCK_LOG_SIZE 16, less 10
			return "", 0, fmt.Errorf("is an ext2 whose blocks are 2^%d bytes", uint64(log)+10)
		}
		hi, size := bits.Mul64(uint64(le.Uint32(head[extBlocks:])), 1024<<log)
		if hi != 0 || size == 0 {
			return "", 0, errors.New("is an ext2 without blocks")
		}
		return Ext, int64(size), nil
	}
	return "", 0, fmt.Errorf("%s, and stage 2 must be a squashfs or an ext2 image", other(head))
}

// other names what people have put there instead.
func other(head []byte) string {
	switch {
	case len(head) == 0:
		return "is empty"
	case bytes.HasPrefix(head, []byte("#!/bin/sh\n#V")):
		return "is a compressed loop image (cloop), as the first rescue.clp was; make a squashfs of what is in it"
	case len(head) >= headSize && bytes.Equal(head[0x8001:headSize], []byte("CD001")):
		return "is an ISO 9660"
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "is compressed with gzip"
	}
	if t := http.DetectContentType(head); strings.HasPrefix(t, "text/") {
		t, _, _ = strings.Cut(t, ";")
		return fmt.Sprintf("is %s (it begins with %.40q)", t, head)
	}
	return "is nothing that is known here"
}
