// Package status is the words in which golden, its nodes and the tests speak
// of how far a machine is. It is a vocabulary and nothing else: it keeps no
// node and decides nothing.
//
//	stage 1 ▶ receiving stage 2 ▶ stage 2 ▶ preparing disks ▶ ready
//	   ▶ receiving ▶ fixing ▶ done ▶ released          or, from anywhere, failed
package status

// State is how far a node is.
type State string

// The states, in the order in which a node that becomes a clone has them.
const (
	Stage1    State = "stage 1"           // registered, waits for stage 2
	Stepping  State = "receiving stage 2" // over the chain
	Stage2    State = "stage 2"           // registered again
	Preparing State = "preparing disks"
	Ready     State = "ready" // disks are made and mounted
	Receiving State = "receiving"
	Fixing    State = "fixing" // becomes a machine of its own
	Done      State = "done"   // waits for its release
	Released  State = "released"
	Failed    State = "failed"
)

// Lines that a person looks for on a console, and tests wait for.
const (
	NoServer    = "Can't reach a valid KA server"
	NoDolly     = "Can't reach a valid Dolly server"
	NodeIsClone = "kamethod: this machine is a clone"
)
