package wire

// Run tells a machine that runs in its memory what golden sends who it is.
type Run struct {
	Hostname string    `json:"hostname"`
	NodeID   int       `json:"node_id"`            // a node_id= on its boot line goes before it
	Networks []Network `json:"networks,omitempty"` // fixed addresses of the nodes file; empty: by DHCP
	Files    []RunFile `json:"files,omitempty"`    // rendered for it
}

// RunFile is a file that golden has rendered for one machine.
type RunFile struct {
	Path    string `json:"path"` // absolute
	Mode    uint32 `json:"mode"` // its permissions
	Content []byte `json:"content"`
}

// MaxRunFiles and MaxRunFile bound what is rendered for a machine: files, and
// bytes of each. All of them have to fit into MaxMessage.
const (
	MaxRunFiles = 64
	MaxRunFile  = 1 << 20
)
