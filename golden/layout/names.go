package layout

import (
	"fmt"
	"regexp"
	"strconv"
)

// PartitionName is what Linux calls partition n of a disk, "sda" or "/dev/sda":
// it puts a p between where the disk's name ends in a digit
// (block/partitions/core.c). Number 0 is the disk.
func PartitionName(disk string, n int) string {
	switch {
	case n == 0 || disk == "":
		return disk
	case disk[len(disk)-1] >= '0' && disk[len(disk)-1] <= '9':
		return fmt.Sprintf("%sp%d", disk, n)
	}
	return fmt.Sprintf("%s%d", disk, n)
}

// SplitPartition takes a partition's name apart: "sda1" is sda and 1,
// "nvme0n1p2" is nvme0n1 and 2. No number: it is no partition's name.
func SplitPartition(name string) (disk string, n int) {
	for _, form := range []string{`^((?:nvme\d+n|mmcblk|loop|nbd|md|cciss/c\d+d|ida/c\d+d)\d+)p(\d{1,3})$`, `^((?:h|s|v|xv|ub)d[a-z]+)(\d{1,3})$`} {
		if m := regexp.MustCompile(form).FindStringSubmatch(name); m != nil {
			n, _ := strconv.Atoi(m[2]) // digits, three at most
			return m[1], n
		}
	}
	return "", 0
}
