package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// bus is what a disk is attached by, told by where sysfs has it:
// /sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda.
func bus(real string) string {
	for _, b := range []struct{ form, name string }{
		{`/usb\d+/`, "usb"}, {`/ata\d+/`, "ata"}, {`/nvme\d*/|/nvme-subsystem/`, "nvme"},
		{`/mmc_host/`, "mmc"}, {`/host\d+/`, "scsi"}, {`/virtio\d+/`, "virtio"},
	} {
		if regexp.MustCompile(b.form).MatchString(real) {
			return b.name
		}
	}
	return ""
}

// byPaths are the names below /dev/disk/by-path that udev makes for the disk
// that sysfs has at real, and that path itself for what udev has no name for.
// Forms differ with udev's age: all are given.
//
//	0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0   pci-0000:00:1f.2-ata-1, …-ata-1.0
//	0000:00:14.0/usb1/1-2/1-2:1.0/host6/…/6:0:0:0 pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0
//	0000:01:00.0/nvme/nvme0/nvme0n1               pci-0000:01:00.0-nvme-1
//	0000:00:05.0/virtio2/block/vda                pci-0000:00:05.0, virtio-pci-0000:00:05.0
func byPaths(real, nsid string) []string {
	words := strings.Split(real, "/")
	var tails []string // of the name, from the controller on
	unit := slices.IndexFunc(words, regexp.MustCompile(`^\d+:\d+:\d+:\d+$`).MatchString)
	switch {
	case bus(real) == "ata" && unit > 0:
		tails = ataTails(real, words[unit])
	case bus(real) == "nvme":
		if nsid == "" { // kernels before 4.9 have no such file
			_, nsid, _ = strings.Cut(strings.TrimPrefix(words[len(words)-1], "nvme"), "n")
		}
		tails = []string{"-nvme-" + nsid}
	case unit > 0:
		tails = []string{"-scsi-" + hostRelative(real, words[unit])}
	default:
		tails = []string{""}
	}
	if bus(real) == "usb" {
		for i := range tails {
			tails[i] = usbTail(words) + tails[i]
		}
	}
	var names []string
	for _, t := range tails {
		if c := controller(words); c != "" {
			names = append(names, c+t)
			if bus(real) == "virtio" || strings.Contains(real, "/virtio") {
				names = append(names, "virtio-"+c+t)
			}
		}
	}
	return append(names, real)
}

// controller is the innermost device of a bus that has addresses.
func controller(words []string) string {
	pci := regexp.MustCompile(`^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
	for i := len(words) - 1; i > 0; i-- {
		switch {
		case pci.MatchString(words[i]):
			return "pci-" + words[i]
		case words[i-1] == "platform":
			return "platform-" + words[i]
		}
	}
	return ""
}

// usbTail is where the disk is plugged in: the interface 1-2.3:1.0 is behind
// the second port's third.
func usbTail(words []string) string {
	iface := regexp.MustCompile(`^\d+-([0-9.]+:\d+\.\d+)$`)
	for i := len(words) - 1; i > 0; i-- {
		if m := iface.FindStringSubmatch(words[i]); m != nil {
			return "-usb-0:" + m[1]
		}
	}
	return ""
}

// ataTails has the port's number as its controller counts it, from 1, and
// the target's behind a port multiplier.
func ataTails(real, unit string) []string {
	port := regexp.MustCompile(`/ata(\d+)/`).FindStringSubmatch(real)
	if port == nil {
		return []string{""}
	}
	number := port[1]
	// The kernel counts ports across controllers, port_no within one.
	root := real[:strings.Index(real, "/ata"+port[1]+"/")+len("/ata"+port[1])]
	if n := attr(filepath.Join(root, "ata_port", "ata"+port[1]), "port_no"); n != "" {
		number = n
	}
	target := strings.Split(unit, ":")[2]
	return []string{"-ata-" + number, "-ata-" + number + "." + target}
}

// hostRelative is a SCSI address with the host counted from the first one of
// its controller: which number that got is a matter of chance.
func hostRelative(real, unit string) string {
	host, rest, _ := strings.Cut(unit, ":")
	n, err := strconv.Atoi(host)
	if err != nil {
		return unit
	}
	first := n
	if i := strings.Index(real, "/host"+host+"/"); i > 0 {
		entries, _ := os.ReadDir(real[:i])
		for _, e := range entries {
			if m, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "host")); err == nil && strings.HasPrefix(e.Name(), "host") {
				first = min(first, m)
			}
		}
	}
	return fmt.Sprintf("%d:%s", n-first, rest)
}

// unitSerial reads the serial number that a SCSI disk tells of itself: page
// 80h has it behind 4 bytes (SPC-4, 7.8.14).
func unitSerial(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "device", "vpd_pg80"))
	if err != nil || len(b) < 4 || b[1] != 0x80 {
		return ""
	}
	s := strings.TrimSpace(strings.TrimRight(string(b[4:]), "\x00"))
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return s
}
