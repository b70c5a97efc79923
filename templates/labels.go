package templates

import (
	"slices"
	"strings"
)

// A label is what a person types at the boot prompt of the manuals (and what
// a nodes file says of a machine). Each stands for a boot line: how stage 2
// comes, and which method of replication runs then.
//
//	local ──▶ LOCALBOOT 0
//	http  ──▶ automatic=method:http,interface:auto,network:dhcp,server:S,directory:D rw rescue
const (
	LabelLocal    = "local"
	LabelKAMethod = "kamethod"
	LabelDiskless = "diskless" // runs in memory what golden sends; the manuals' diskless image came by dolly
)

// Labels are all of them, in the manuals' order. ftp has no label there, but
// their stage 1 knows it.
func Labels() []string {
	return []string{LabelLocal, LabelKAMethod, "dolly", "nfs", "http", "ftp", LabelDiskless}
}

// Lasts says whether what a label boots goes on to run other people's
// programs: its processor keeps the guards between them.
func Lasts(label string) bool { return label == LabelDiskless }

// IsLabel says whether a word is one.
func IsLabel(word string) bool { return slices.Contains(Labels(), word) }

// NeedsServer says whether stage 2 of a label comes from a server that the
// boot line names.
func NeedsServer(label string) bool { return label == "nfs" || label == "http" || label == "ftp" }

// LabelWords are the kernel words of a label: those of the manuals, but for
// what only their kernel wanted (ramdisk_size, vga, root). Server and directory
// count where the label needs them; left out, stage 1 asks the server that it
// booted from. None for local.
func LabelWords(label, server, directory string) []string {
	switch label {
	case LabelLocal:
		return nil
	case LabelDiskless:
		return []string{"automatic=method:ka,interface:auto,network:dhcp", "rw", "ka.run=ram", "net.ifnames=0"}
	case "dolly":
		return []string{"automatic=method:dolly,dolly_timeout:100,interface:auto,network:dhcp", "rw", "rescue", "dollymethod"}
	case "nfs", "http", "ftp":
		w := []string{"automatic=method:" + label, "interface:auto", "network:dhcp"}
		if server != "" {
			w = append(w, "server:"+server)
		}
		if directory != "" {
			w = append(w, "directory:"+directory)
		}
		return []string{strings.Join(w, ","), "rw", "rescue"}
	}
	return []string{"automatic=method:ka,interface:auto,network:dhcp", "rw", "kamethod"}
}
