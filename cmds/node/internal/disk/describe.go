package disk

import (
	"fmt"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// Describe says in lines what would be made on the tables of an assignment:
// the stack, with the sizes that its parts will have at least, and the file
// systems.
func Describe(plan wire.Plan, a Assignment) []string {
	var lines []string
	mb := func(name string) int64 { return a.places[name].bytes >> 20 }
	on := func(names ...string) string {
		var devs []string
		for _, n := range names {
			dev, err := deviceOf(plan, a.Devices, nil, n)
			if err != nil {
				dev = "/dev/" + n // of the stack: it will be called so
			}
			devs = append(devs, dev)
		}
		return strings.Join(devs, ", ")
	}
	for _, name := range a.order {
		switch t := thingOf(a.stack, name); {
		case t.array != nil:
			lines = append(lines, fmt.Sprintf("/dev/%s: array of level %d, %d MB, of %s", name, t.array.Level, mb(name), on(t.array.Members...)))
		case t.crypt != nil:
			lines = append(lines, fmt.Sprintf("/dev/%s: LUKS container, %d MB, on %s", name, mb(name), on(t.crypt.Device)))
		case t.group != nil:
			lines = append(lines, fmt.Sprintf("%s: volume group of %s", name, on(t.group.Devices...)))
			for _, v := range t.group.Volumes {
				lines = append(lines, fmt.Sprintf("/dev/%s/%s: volume, %d MB", name, v.Name, mb(name+"/"+v.Name)))
			}
		}
	}
	for _, fs := range plan.Filesystems {
		line := fmt.Sprintf("%s: %s, %d MB", on(onName(plan, fs)), fs.Type, mb(onName(plan, fs)))
		for i, m := range mountPoints(fs) {
			line += map[bool]string{true: ", mounted on ", false: " and "}[i == 0] + m.at
		}
		lines = append(lines, line)
	}
	return lines
}
