// Vminit is the first process of package vmtest's machines: it loads modules,
// makes stage 2's image the root with what the test needs laid over it, runs the
// test, says how it ended, and switches the machine off.
//
//	initramfs: /init /modules /rescue.sqfs /over ──▶ overlay of /over on /rescue.sqfs ──▶ /work/test
package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	status, err := run()
	if err != nil {
		say(fmt.Sprintf("vminit: %v\n", err))
		status = 125
	}
	say(fmt.Sprintf("@@vmtest exit %d\n", status))
	time.Sleep(100 * time.Millisecond) // the serial port's buffer
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	for {
		time.Sleep(time.Hour) // the first process may not end; the host gives up
	}
}
