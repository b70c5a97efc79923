package disk

import (
	"context"
	"strings"
	"time"
)

// Release takes apart what is made of a disk ("/dev/sda"), and switches off
// swap areas on it. Nothing on the disk changes by that.
func Release(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := strings.ReplaceAll(strings.TrimPrefix(path, "/dev/"), "/", "!")
	devs, err := Inventory("/sys")
	if err != nil {
		return err
	}
	for _, d := range devs {
		if d.Path == path {
			if err := checkHolders("/sys", []Device{d}); err != nil {
				return err
			}
		}
	}
	return release(ctx, Options{}, []string{name})
}
