package disk

import (
	"fmt"
	"os"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// SignatureAt is where an MBR keeps the disk's signature, 4 bytes, and two
// more that are zeros or mark it as write protected (Microsoft's MBR since
// Windows NT). They are the clone's own: two disks of one signature are not
// both put to use by Windows, and a PARTUUID is made of it. What is before is
// code.
const SignatureAt = 440

// EditBootRecord changes the first 512 bytes of a disk, and waits until that
// is on it.
func EditBootRecord(path string, change func(sector []byte) error) error {
	err := editStart(path, func(f *os.File, sector []byte) error {
		if err := change(sector); err != nil {
			return err
		}
		_, err := f.WriteAt(sector, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("boot record of %s: %w", path, err)
	}
	return nil
}

// WriteBootCode writes the plan's boot code (-m, -M): what comes before the
// table and the signature. It is for the very end, as with it the disk starts.
func WriteBootCode(plan wire.Plan, made wire.DiskResult) error {
	for i, d := range plan.Disks {
		if len(d.BootCode) == 0 {
			continue
		}
		if i >= len(made.Disks) {
			return fmt.Errorf("boot code for %s: the disk was not made", d.Name)
		}
		err := EditBootRecord(made.Disks[i], func(sector []byte) error {
			copy(sector[:SignatureAt], d.BootCode)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stopBooting takes the code of an earlier clone out of the boot records,
// where the end of this one writes new code.
func stopBooting(plan wire.Plan, disks []string) error {
	for i, d := range plan.Disks {
		if len(d.BootCode) == 0 && (plan.Loader.Kind == "" || plan.Loader.Kind == "none") {
			continue
		}
		err := EditBootRecord(disks[i], func(sector []byte) error {
			clear(sector[:SignatureAt])
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func checkBootCode(plan wire.Plan) error {
	for _, d := range plan.Disks {
		if n := len(d.BootCode); n != 0 && n != wire.BootCodeSize {
			return fmt.Errorf("boot code for %s: %d bytes, want %d", d.Name, n, wire.BootCodeSize)
		}
		if len(d.BootCode) > 0 && d.Layout.Table == layout.None {
			return fmt.Errorf("boot code for %s: the disk gets no table, all of it is something else's", d.Name)
		}
	}
	return nil
}
