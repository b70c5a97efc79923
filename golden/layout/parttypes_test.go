package layout

import "testing"

func TestIsLinux(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    Part
		want bool
	}{
		{"MBR 83", Part{Type: TypeLinux}, true},
		{"MBR 83, logical", Part{Type: TypeLinux, Kind: Logical}, true},
		{"MBR swap", Part{Type: TypeLinuxSwap}, false},
		{"extended", Part{Type: TypeLinuxExtended, Kind: Extended}, false},
		{"GPT Linux", Part{GUID: GUIDLinux}, true},
		{"GPT /home", Part{GUID: "933AC7E1-2EB4-4F13-B844-0E14E2AEF915"}, true},
		{"GPT /boot", Part{GUID: guidBootLoader}, true},
		{"GPT ESP", Part{GUID: GUIDESP}, false},
		{"Windows's recovery", Part{GUID: "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC"}, false},
		{"HFS+", Part{GUID: "48465300-0000-11AA-AA11-00306543ECAC"}, false},
	} {
		if got := tt.p.IsLinux(); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
