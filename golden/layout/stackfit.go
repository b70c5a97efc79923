package layout

import (
	"cmp"
	"fmt"
	"slices"
)

// maxStacked bounds the sum of what something is made of, so that no sum
// overflows.
const maxStacked = maxDisk / maxMembers

func checkMembers(sizes []int64, want int) error {
	if len(sizes) != want {
		return fmt.Errorf("%d sizes for %d devices", len(sizes), want)
	}
	for _, n := range sizes {
		if n < 0 || n > maxStacked {
			return fmt.Errorf("device of %d bytes: impossible", n)
		}
	}
	return nil
}

// Capacity is how many bytes an array of members of such sizes has at least.
// mdadm may make it a little larger: how much it leaves before the data
// depends on its version.
func (a Array) Capacity(members []int64) (int64, error) {
	if err := a.Valid(); err != nil {
		return 0, fmt.Errorf("array %q: %w", a.Name, err)
	}
	if err := checkMembers(members, len(a.Members)); err != nil {
		return 0, fmt.Errorf("array %q: %w", a.Name, err)
	}
	chunk := a.Chunk
	if chunk == 0 {
		chunk = 512 << 10 // mdadm(8), --chunk
	}
	if a.Level == 1 {
		chunk = 4 << 10
	}
	var all, least int64
	for i, n := range members {
		n = a.dataOf(n, chunk) / chunk * chunk
		if n <= 0 {
			return 0, fmt.Errorf("array %q: %s has %d bytes: too few for a member", a.Name, a.Members[i], members[i])
		}
		all += n
		if i == 0 || n < least {
			least = n
		}
	}
	count := int64(len(members))
	switch a.Level {
	case 0:
		return all, nil // what larger members have more is used too (md(4), RAID0)
	case 1:
		return least, nil
	case 4, 5:
		return least * (count - 1), nil
	case 6:
		return least * (count - 2), nil
	}
	return least / chunk * count / 2 * chunk, nil // 10: two copies of each chunk, layout n2
}

// dataOf is what a member has for data. With metadata 1.x there are the
// superblock and the bitmap, at most 12 KiB and 128 KiB, and in 1.1 and 1.2
// before the data room for a later reshape: a 1024th of the member, at most
// 128 MiB, at least four chunks, in whole MiBs (mdadm's super1.c,
// validate_geometry1). 0.90 takes the last whole 64 KiB that is 64 KiB aligned
// (md(4)), and reaches 2 TB of a member. TestInVM has mdadm judge it.
func (a Array) dataOf(size, chunk int64) int64 {
	switch a.Metadata {
	case "0.90":
		if a.Level > 0 {
			size = min(size, 2<<40)
		}
		return size&^(64<<10-1) - 64<<10
	case "1.0":
		return size&^4095 - 140<<10
	}
	headroom := max(min(size/1024, 128*mib), 4*chunk)
	return size - ceil(headroom+140<<10, mib)*mib
}

// Capacity is how many bytes a container has on a device of such a size.
func (c Crypt) Capacity(device int64) (int64, error) {
	if err := checkMembers([]int64{device}, 1); err != nil {
		return 0, fmt.Errorf("container %q: %w", c.Name, err)
	}
	header := int64(16 * mib) // LUKS2 (cryptsetup-luksFormat(8), --offset)
	if c.Version == 1 {
		header = 2 * mib
	}
	n := (device - header) &^ 4095 // cryptsetup takes sectors of 4096 bytes where it can
	if n <= 0 {
		return 0, fmt.Errorf("container %q: %s has %d bytes, the header alone takes %d", c.Name, c.Device, device, header)
	}
	return n, nil
}

// ExtentSize is the group's, in bytes.
func (g Group) ExtentSize() int64 {
	if g.Extent == 0 {
		return 4 * mib // vgcreate(8)
	}
	return g.Extent
}

// pvStart is where the extents of a physical volume begin, given
// pvcreate --dataalignment 1m (and without, but on arrays with wide stripes).
const pvStart = mib

// Fit is the sizes in bytes of the group's volumes, in their order, whole
// extents each, on physical volumes of such sizes. They are shared out as
// a disk's partitions are. Striped volumes have to be made before the linear
// ones, which take whatever is left wherever it is.
func (g Group) Fit(pv []int64) ([]int64, error) {
	sizes, err := g.fit(pv)
	if err != nil {
		return nil, fmt.Errorf("volume group %q: %w", g.Name, err)
	}
	return sizes, nil
}

func (g Group) fit(pv []int64) ([]int64, error) {
	if err := g.Valid(); err != nil {
		return nil, err
	}
	if err := checkMembers(pv, len(g.Devices)); err != nil {
		return nil, err
	}
	extent := g.ExtentSize()
	free := make([]int64, len(pv))
	var room int64
	for i, n := range pv {
		if free[i] = (n - pvStart) / extent; free[i] <= 0 {
			return nil, fmt.Errorf("%s has %d bytes: no room for an extent of %d", g.Devices[i], n, extent)
		}
		room += free[i]
	}
	var all []claim
	for _, v := range g.Volumes {
		all = append(all, newClaim(v.part(), extent, room).striped(v.stripes()))
	}
	if want, least := sum(all); least > room {
		atLeast := ""
		if least < want {
			atLeast = " at least"
		}
		return nil, fmt.Errorf("its volumes take %d MB%s, it has room for %d MB", MB(least*extent), atLeast, MB(room*extent))
	}
	sizes := share(all, room)
	for i, v := range g.Volumes {
		sizes[i] -= sizes[i] % v.stripes()
	}
	if err := g.stripe(sizes, free); err != nil {
		return nil, err
	}
	for i := range sizes {
		sizes[i] *= extent
	}
	return sizes, nil
}

func (v Volume) stripes() int64 { return max(int64(v.Stripes), 1) }

// striped makes the bounds multiples of the stripes, as lvcreate does.
func (c claim) striped(n int64) claim {
	c.want = ceil(c.want, n) * n
	c.min = ceil(c.min, n) * n
	c.most = max(c.most, c.want)
	return c
}

// stripe looks for the extents of the striped volumes, each of whose stripes
// is on another device, as lvcreate does: on the devices that have most left,
// as much as the smallest of them has, and again.
func (g Group) stripe(sizes, free []int64) error {
	for i, v := range g.Volumes {
		n := v.stripes()
		if n == 1 {
			continue
		}
		for left := sizes[i] / n; left > 0; {
			slices.SortFunc(free, func(a, b int64) int { return cmp.Compare(b, a) })
			step := min(free[n-1], left)
			if step == 0 {
				return fmt.Errorf("volume %q: its %d stripes find no room on as many devices", v.Name, n)
			}
			for k := range free[:n] {
				free[k] -= step
			}
			left -= step
		}
	}
	return nil
}
