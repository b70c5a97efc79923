package golden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/kamethod/kamethod/golden/status"
)

const releasePath = "/v1/golden/release" // POST Release, answered Released

// Release lets nodes go that are done and wait: for the pause between two (-d),
// or because they are held.
type Release struct {
	Nodes []string `json:"nodes"` // as in ExecRequest
}

// Released is what became of it.
type Released struct {
	Going []int `json:"going"` // done: they are let go now
	Later []int `json:"later"` // as soon as they are done
	Over  []int `json:"over"`  // failed, and kept for a look: golden waits for them no longer
}

// release is the verb; the flow does it.
func (d *deployment) release(words []string) (Released, error) {
	var out Released
	nodes, err := d.pick(words)
	if err != nil {
		return out, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.poke()
	for _, w := range words {
		d.freeAll = d.freeAll || w == AllNodes
	}
	for _, n := range nodes {
		d.free[n.Number] = true
		switch s := n.State(); s {
		case status.Released:
		case status.Done:
			out.Going = append(out.Going, n.Number)
		case status.Failed:
			out.Over = append(out.Over, n.Number)
		default:
			out.Later = append(out.Later, n.Number)
		}
	}
	return out, nil
}

// freed tells whether the administrator has let a node go.
func (d *deployment) freed(n *Node) bool { return d.freeAll || d.free[n.Number] }

// held tells whether a node that is done waits for the administrator.
func (d *deployment) held(n *Node) bool { return d.clone != nil && d.clone.Hold && !d.freed(n) }

// keeps tells whether golden stays for nodes that have failed and on which the
// administrator may want to look for the cause. A connection that breaks does
// not end that.
func (d *deployment) keeps() bool {
	for _, n := range d.nodes {
		if d.server.agents.lately(n.Number) && n.State() == status.Failed && d.held(n) {
			return true
		}
	}
	return false
}

func (d *deployment) releaseVerb(w http.ResponseWriter, r *http.Request) {
	var q Release
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRegister))
	in.DisallowUnknownFields()
	err := in.Decode(&q)
	if err == nil && len(q.Nodes) == 0 {
		err = errors.New("whom? name nodes, or say all")
	}
	if err != nil {
		http.Error(w, "release: "+err.Error(), http.StatusBadRequest)
		return
	}
	out, err := d.release(q.Nodes)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	json.NewEncoder(w).Encode(out)
}

// Release lets nodes go.
func (a Admin) Release(ctx context.Context, nodes []string) (Released, error) {
	var out Released
	body, err := json.Marshal(Release{Nodes: nodes})
	if err != nil {
		return out, fmt.Errorf("encode the nodes: %w", err)
	}
	b, err := a.ask(ctx, http.MethodPost, releasePath, body)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}
