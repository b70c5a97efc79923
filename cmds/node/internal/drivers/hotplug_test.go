package drivers

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAdded(t *testing.T) {
	for _, tt := range []struct {
		event string
		want  Device
	}{
		{"add@/devices/pci0/0000:00:03.0\x00ACTION=add\x00SUBSYSTEM=pci\x00MODALIAS=pci:v1\x00SEQNUM=1\x00", Device{Path: "pci/devices/0000:00:03.0", Modalias: "pci:v1"}},
		{"add@/devices/x\x00ACTION=add\x00MODALIAS=pci:v1\x00", Device{Modalias: "pci:v1"}},
		{"remove@/devices/x\x00ACTION=remove\x00MODALIAS=pci:v1\x00", Device{}},
		{"add@/devices/x\x00ACTION=add\x00", Device{}},
		{"libudev\x00MODALIAS=a", Device{}},
		{"", Device{}},
	} {
		if got := added([]byte(tt.event)); got != tt.want {
			t.Errorf("%q: got %+v, want %+v", tt.event, got, tt.want)
		}
	}
}

func FuzzAdded(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00ACTION=add\x00SUBSYSTEM=pci\x00MODALIAS=pci:v1\x00"))
	f.Add([]byte("add@\x00MODALIAS="))
	x := &Index{aliases: map[string][]alias{"pci:": {{pattern: "pci:v*d[0-9]*", module: "a"}}}}
	f.Fuzz(func(t *testing.T, event []byte) {
		d := added(event)
		if len(d.Modalias) > maxModalias {
			t.Errorf("%d bytes", len(d.Modalias))
		}
		x.Lookup(d.Modalias)
	})
}

// Watch must end with its context, whether or not anything happens.
func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done, err := NewLoader(smallTree(t), "").Watch(ctx, func(Report) {})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("still listening a minute after the end")
	}
}

func TestDevicesAndWanted(t *testing.T) {
	sys := t.TempDir()
	device := func(path, modalias, driver string) {
		d := filepath.Join(sys, "bus", path)
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "modalias"), []byte(modalias+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if driver != "" {
			if err := os.Symlink("/x/drivers/"+driver, filepath.Join(d, "driver")); err != nil {
				t.Fatal(err)
			}
		}
	}
	device("virtio/devices/virtio0", "virtio:d00000001v00001AF4", "")
	device("acpi/devices/PNP0700:00", "acpi:PNP0700:", "")
	device("pci/devices/0000:00:00.0", "pci:v1", "bridge")
	device("pci/devices/0000:00:01.0", "", "")
	got, err := Devices(sys)
	if err != nil {
		t.Fatal(err)
	}
	want := []Device{
		{Path: "acpi/devices/PNP0700:00", Modalias: "acpi:PNP0700:"},
		{Path: "pci/devices/0000:00:00.0", Modalias: "pci:v1", Driver: "bridge"},
		{Path: "virtio/devices/virtio0", Modalias: "virtio:d00000001v00001AF4"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	wanted, err := NewLoader(smallTree(t), "").Wanted(sys)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"failover", "net_failover", "virtio_net"}, wanted); d != "" {
		t.Errorf("wanted -want +got:\n%s", d)
	}
}
