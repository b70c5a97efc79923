package wire

// Copy is one file, partition or disk of golden's that every node of the plan
// gets (golden-serve dolly). Copy n is stream n.
type Copy struct {
	From     string `json:"from"`                // golden's, for people: "/dev/sda", "boot.tar.Z"
	To       string `json:"to"`                  // "/dev/sda5", "/tmp/file", or the folder that an archive is unpacked into
	Archive  string `json:"archive,omitempty"`   // package archive has the words; empty: one file
	Packing  string `json:"packing,omitempty"`   // how the pieces are compressed that come; empty: they are written as they are
	Bytes    int64  `json:"bytes"`               // that are written: to the device or file, or to all of an archive's files
	FarLinks bool   `json:"far_links,omitempty"` // an archive's symbolic links may point out of its folder
}

// Cooked says whether what comes isn't what is written.
func (c Copy) Cooked() bool { return c.Archive != "" || c.Packing != "" }

// Mount is a partition of the node's that is mounted for the copies of a plan.
type Mount struct {
	Device string `json:"device"` // "/dev/sda1"
	At     string `json:"at"`     // "/boot", as the copies have it
}
