package faults

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// inside marks the process that Isolate started.
const inside = "KAMETHOD_FAULTS_INSIDE"

// Isolate runs this program again in a mount namespace of its own and gives
// its exit status; ok is false where this process is that one already.
func Isolate() (status int, ok bool) {
	if os.Getenv(inside) != "" {
		os.Unsetenv(inside)
		return 0, false
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Unshareflags: the child's view of mounts becomes private before it runs.
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := c.Start(); err != nil {
		os.Stderr.WriteString("start in a mount namespace: " + err.Error() + "\n")
		return 2, true
	}
	go func() {
		for s := range signals {
			c.Process.Signal(s) // a terminal has told the child already: it hears it twice
		}
	}()
	err := c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode()), true
	}
	return 0, true
}
