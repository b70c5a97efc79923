package golden

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// Status is how far a deployment is.
type Status struct {
	Phase          string `json:"phase"`
	chain.Progress `json:"progress"`
	Nodes          []NodeStatus `json:"nodes"`
}

// NodeStatus is one node's line in it.
type NodeStatus struct {
	Number   int          `json:"number"`
	Name     string       `json:"name"`
	State    status.State `json:"state"`
	Stored   int64        `json:"stored"` // bytes, of the transfer that runs
	Rejoined bool         `json:"rejoined"`
}

// Result is how a deployment came out.
type Result struct {
	Session string       `json:"session"`
	Bytes   int64        `json:"bytes"` // of one copy
	Sent    int64        `json:"sent"`  // of these, by golden, with what had to be sent again
	Kept    int64        `json:"kept"`  // of these, what every node held already
	Seconds float64      `json:"seconds"`
	Nodes   []NodeResult `json:"nodes"`
	Touched bool         `json:"touched"`           // disks of nodes may have been written
	Torn    []string     `json:"torn,omitempty"`    // files that changed all the time: the copies of them are not one version
	Verdict Verdict      `json:"verdict,omitempty"` // what the clones' files are; empty: no node has them
	Reread  int          `json:"reread,omitempty"`  // files that changed while they were copied, and were copied again
	Notes   []string     `json:"notes,omitempty"`
}

// NodeResult is how a node came out.
type NodeResult struct {
	Number   int                `json:"number"`
	MAC      string             `json:"mac,omitempty"`
	Address  string             `json:"address"`
	Hostname string             `json:"hostname,omitempty"`
	State    status.State       `json:"state"`
	Stage    string             `json:"stage,omitempty"` // where it failed
	Error    string             `json:"error,omitempty"`
	Rejoined bool               `json:"rejoined,omitempty"` // was lost on the way, and came back
	Bytes    int64              `json:"bytes"`
	Seconds  map[string]float64 `json:"seconds"` // by what it did: stage1, disk, clone, fixup
	HostKeys []string           `json:"host_keys,omitempty"`
	Notes    []string           `json:"notes,omitempty"`

	Label     string         `json:"label,omitempty"`      // what it boots, by the nodes file; empty: kamethod
	Note      string         `json:"note,omitempty"`       // of the nodes file
	Fixed     []string       `json:"fixed,omitempty"`      // addresses that the clone has for good
	Steps     []wire.FixStep `json:"steps,omitempty"`      // what was changed on the clone, and why
	MoreFiles int            `json:"more_files,omitempty"` // changed, and not named in Steps
	Leftovers []string       `json:"leftovers,omitempty"`  // where golden is still named
}

// Failed counts the nodes that are not done.
func (r Result) Failed() int {
	n := 0
	for _, x := range r.Nodes {
		if x.State == status.Failed {
			n++
		}
	}
	return n
}

func host(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return h
}

func (d *deployment) result() Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := Result{Session: d.Session, Touched: d.touched, Seconds: time.Since(d.begun).Seconds()}
	if d.tree.last != nil {
		p := d.tree.last.Progress()
		r.Bytes, r.Sent, r.Kept = p.Bytes, p.Sent, p.Kept
	}
	r.Torn = d.tree.torn()
	for _, n := range d.nodes {
		x := NodeResult{Number: n.Number, MAC: n.MAC, Address: host(n.Addr), Hostname: n.Hostname,
			State: n.State(), Rejoined: n.rejoined, Bytes: n.bytes(r.Bytes), Seconds: n.timings()}
		if a, b := d.came[n.Number][wire.Stage1], d.came[n.Number][wire.Stage2]; !a.IsZero() && b.After(a) {
			x.Seconds["stage1"] = b.Sub(a).Seconds()
		}
		n.mu.Lock()
		if n.fault != nil {
			x.Stage, x.Error = n.fault.Stage, n.fault.Cause
		}
		if n.done != nil {
			x.HostKeys, x.Notes = n.done.HostKeys, n.done.Notes
			x.Steps, x.MoreFiles, x.Leftovers = n.done.Steps, n.done.MoreFiles, n.done.Leftovers
		}
		n.mu.Unlock()
		r.Nodes = append(r.Nodes, x)
	}
	if slices.ContainsFunc(r.Nodes, func(n NodeResult) bool { return n.State == status.Done || n.State == status.Released }) {
		r.Verdict, r.Reread = d.tree.judge()
	}
	r.Nodes = append(r.Nodes, d.Book.absent(d.nodes)...)
	slices.SortFunc(r.Nodes, func(a, b NodeResult) int { return a.Number - b.Number })
	return r
}

// bytes is how much of the transfer the node has; who is done has it all.
func (n *Node) bytes(all int64) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done != nil {
		return all
	}
	if n.Stage == wire.Stage1 {
		return 0
	}
	return n.stored
}

// timings are seconds by stage, of the stages that the node has been in.
func (n *Node) timings() map[string]float64 {
	out := map[string]float64{}
	put := func(name string, v float64) {
		if v > 0 {
			out[name] = v
		}
	}
	put("disk", n.seconds(status.Preparing, status.Ready, status.Failed))
	put("clone", n.seconds(status.Receiving, status.Fixing, status.Done, status.Failed))
	put("fixup", n.seconds(status.Fixing, status.Done, status.Failed))
	return out
}

// pulse shows progress until the context ends.
func (d *deployment) pulse(ctx context.Context) {
	if d.Watch == nil {
		return
	}
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			d.Watch(d.status())
		}
	}
}

func (d *deployment) status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Status{Phase: d.phase}
	head := d.tree.last
	if head == nil && d.stage2 != nil {
		head = d.stage2.last
	}
	if head != nil {
		s.Progress = head.Progress()
	}
	for _, n := range d.nodes {
		name := n.Hostname
		if name == "" {
			name = n.Addr
		}
		s.Nodes = append(s.Nodes, NodeStatus{Number: n.Number, Name: name, State: n.State(), Stored: n.bytes(s.Bytes), Rejoined: n.rejoined})
	}
	slices.SortFunc(s.Nodes, func(a, b NodeStatus) int { return a.Number - b.Number })
	return s
}
