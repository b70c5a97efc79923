package vmlab

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// KernelWords are for the kernels of emulated machines with one processor.
// no_timer_check: on a busy host the emulated timer can be too late for the
// kernel's check of it, which then panics. norandmaps: QEMU translates a program
// once more wherever else in memory it lies (before QEMU 8.1); with fixed
// addresses fork and exec take a third of the time. GOMAXPROCS=2, which the
// kernel hands to init: where system calls are slow and there is one P, Go's
// runtime takes it away and gives it back all the time, and a program of ours
// that waits for its child has half of the processor.
const KernelWords = "no_timer_check norandmaps GOMAXPROCS=2"

// NIC is a model of network card, by QEMU's name.
type NIC string

// Network cards.
const (
	VirtioNet NIC = "virtio-net-pci"
	E1000     NIC = "e1000"
)

// Spec describes a machine: it boots from the network first and from its disk
// when the network says so.
type Spec struct {
	Name     string // of its log files
	MAC      string
	NIC      NIC    // empty: VirtioNet
	Bus      Bus    // empty: VirtioBlk
	Disk     string // raw image; made sparse with DiskSize if missing. The first one
	DiskSize int64  // bytes
	More     []Disk // further disks; or all, where Disk is empty
	Memory   int    // MiB; 0: 1024
	Firmware Firmware
	HTTPBoot bool // UEFI boots from the network by HTTP only, not by PXE
	OwnDisk  bool // boots from its disk and not from the network

	// OnReset is called when the guest resets itself, while the machine
	// stands still: the disk image is exactly what the guest left. It goes
	// on when OnReset returns. nil: the guest resets without a stop.
	OnReset func()
}

// Machine is a running QEMU.
type Machine struct {
	Spec
	Console *Console

	lab  *Lab
	proc *Process
	qmp  *qmp
	up   chan struct{} // closed when qmp is set
	once sync.Once
	held sync.WaitGroup // a reset being looked at
	busy atomic.Bool    // while there is one
}

// Power switches a new machine on.
func (l *Lab) Power(ctx context.Context, spec Spec) (*Machine, error) {
	for _, d := range spec.Disks() {
		if err := d.Create(); err != nil {
			return nil, err
		}
	}
	if err := l.makeVariables(spec); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.taps++
	n := l.taps
	l.mu.Unlock()
	tap := fmt.Sprintf("tap%d", n)
	if err := makeTap(ctx, l.Name, tap); err != nil {
		return nil, err
	}
	serial := filepath.Join(l.sockets, fmt.Sprintf("s%d", n))
	control := filepath.Join(l.sockets, fmt.Sprintf("q%d", n))
	m := &Machine{Spec: spec, lab: l, up: make(chan struct{})}
	disks, err := DiskArgs(spec.Disks())
	if err != nil {
		return nil, err
	}
	args := append(l.qemuArgs(spec, n, tap, serial, control), disks...)
	proc, err := l.Start(ProcessSpec{Name: spec.Name + ".qemu", Args: args})
	if err != nil {
		return nil, err
	}
	m.proc = proc
	l.mu.Lock()
	l.machines = append(l.machines, m)
	l.mu.Unlock()
	if err := m.connect(ctx, serial, control); err != nil {
		return nil, fmt.Errorf("start machine %s: %w (see %s)", spec.Name, err, proc.Log)
	}
	return m, nil
}

// Disks are all that the machine has.
func (s Spec) Disks() []Disk {
	if s.Disk == "" {
		return s.More
	}
	return append([]Disk{{File: s.Disk, Size: s.DiskSize, Bus: s.Bus}}, s.More...)
}

func (m *Machine) connect(ctx context.Context, serial, control string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a QEMU that refuses its arguments ends at once
		select {
		case <-m.proc.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	c, err := openConsole(ctx, serial)
	if err != nil {
		return err
	}
	m.Console = c
	m.qmp, err = openQMP(ctx, control, m.event)
	close(m.up)
	return err
}

// ConsoleLog is the file with all that the serial console printed, raw.
func (m *Machine) ConsoleLog() string { return consoleLog(m.lab.Config.Dir, m.Name) }

func consoleLog(dir, name string) string { return filepath.Join(dir, name+".console") }

func (l *Lab) qemuArgs(spec Spec, n int, tap, serial, control string) []string {
	cpu, accel := l.CPU, l.Accel
	if accel == "tcg" {
		accel = "tcg,thread=multi"
	}
	if cpu == "" {
		cpu = defaultCPU(accel)
	}
	memory, nic := spec.Memory, spec.NIC
	if memory == 0 {
		memory = 1024
	}
	if nic == "" {
		nic = VirtioNet
	}
	args := []string{
		"qemu-system-x86_64", "-name", spec.Name, "-accel", accel,
		// graphics=off puts the firmware, the boot ROM and GRUB on the serial line.
		"-machine", spec.Firmware.machine() + ",graphics=off", "-cpu", cpu, "-smp", "1", "-m", fmt.Sprint(memory),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-boot", "reboot-timeout=2000", // ms until a BIOS without a boot device tries again
		"-uuid", fmt.Sprintf("77770000-0000-4000-8000-%012x", n),
		// wait=on: the processor starts when we listen, so no line is lost.
		"-chardev", "socket,id=s0,path=" + serial + ",server=on,wait=on,logfile=" + consoleLog(l.Config.Dir, spec.Name),
		"-serial", "chardev:s0",
		"-chardev", "socket,id=q0,path=" + control + ",server=on,wait=off", "-mon", "chardev=q0,mode=control",
		"-netdev", "tap,id=n0,ifname=" + tap + ",script=no,downscript=no",
		"-device", fmt.Sprintf("%s,id=nic0,netdev=n0,mac=%s%s", nic, spec.MAC, spec.nicBoot()),
		"-device", "virtio-rng-pci", // a guest without entropy waits for it
	}
	if spec.OnReset != nil {
		args = append(args, "-action", "reboot=shutdown,shutdown=pause")
	}
	return append(args, l.firmwareArgs(spec)...)
}

// defaultCPU is all that a real processor has, but for emulation one that has
// neither AES instructions nor AVX. QEMU 7.2 emulates those so slowly (AES-GCM
// 14 MB/s, BLAKE3 17 MB/s) that programs do better without: they choose
// ChaCha20 (96 MB/s) and SSE (44 MB/s).
func defaultCPU(accel string) string {
	if strings.HasPrefix(accel, "tcg") {
		return "Nehalem"
	}
	return "max"
}

// event is called by the QMP reader, which must not be held up.
func (m *Machine) event(name string, data json.RawMessage) {
	if name != "SHUTDOWN" || m.OnReset == nil {
		return
	}
	var d struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(data, &d) != nil || d.Reason != "guest-reset" {
		return
	}
	// A guest asks for its reset again and again until it is stopped, and
	// each time gives an event.
	if !m.busy.CompareAndSwap(false, true) {
		return
	}
	m.held.Go(func() { // bounded: resume has a deadline
		defer m.busy.Store(false)
		<-m.up // connect may not have returned yet, but will
		m.OnReset()
		if err := m.resume(); err != nil {
			m.lab.Log.Debug("resume after a reset", "machine", m.Name, "err", err)
		}
	})
}

// resume does the reset that the guest asked for.
func (m *Machine) resume() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := m.qmp.do(ctx, "set-action", map[string]string{"reboot": "reset"}); err != nil {
		return err
	}
	if err := m.qmp.do(ctx, "system_reset", nil); err != nil {
		return err
	}
	for { // the reset is done a little later, and "cont" is refused before
		err := m.qmp.do(ctx, "cont", nil)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
	return m.qmp.do(ctx, "set-action", map[string]string{"reboot": "shutdown"})
}

// Unplug takes the n-th disk out of the running machine, as a hand would that
// pulls its cable.
func (m *Machine) Unplug(ctx context.Context, n int) error {
	return m.qmp.do(ctx, "device_del", map[string]string{"id": fmt.Sprintf("disk%d", n)})
}

// Kill switches the machine off, as pulling the plug would.
func (m *Machine) Kill() {
	m.once.Do(func() {
		m.proc.Kill()
		if m.Console != nil {
			m.Console.conn.Close()
		}
		if m.qmp != nil {
			m.qmp.conn.Close()
			<-m.qmp.ended // no event comes after this
		}
		m.held.Wait()
	})
}

// Done is closed when QEMU has ended.
func (m *Machine) Done() <-chan struct{} { return m.proc.Done() }
