package golden

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

const execPath = "/v1/golden/exec" // POST ExecRequest, answered with ExecEvents, one JSON value a line

// AllNodes is the word for every node, where nodes are named.
const AllNodes = "all"

// MaxExecTime is the longest that a program may be given.
const MaxExecTime = 24 * time.Hour

// ExecRequest has a program run on nodes.
type ExecRequest struct {
	Nodes  []string      `json:"nodes"` // numbers, names, addresses of network cards; or AllNodes
	Argv   []string      `json:"argv"`
	Limit  time.Duration `json:"limit"`
	Direct bool          `json:"direct,omitempty"` // golden tells every node itself
}

// pick finds the nodes that somebody has named.
func (d *deployment) pick(words []string) ([]*Node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*Node
	for _, w := range words {
		found := false
		for _, n := range d.nodes {
			if w != AllNodes && !d.called(n, w) {
				continue
			}
			found = true
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
		if !found && w != AllNodes {
			return nil, fmt.Errorf("no node %q in this session", w)
		}
	}
	slices.SortFunc(out, func(a, b *Node) int { return a.Number - b.Number })
	return out, nil
}

// called tells whether a word means a node: 3, node3, the name it has or gets,
// its address, or that of its network card.
func (d *deployment) called(n *Node, w string) bool {
	if mac, err := roster.ParseMAC(w); err == nil {
		own, err := roster.ParseMAC(n.MAC)
		return err == nil && own == mac
	}
	number := strconv.Itoa(n.Number)
	return w == number || w == "node"+number || w == d.nameOf(n) || w == host(n.Addr) || n.Hostname != "" && w == n.Hostname
}

// nameOf is what a node is called before its lines.
func (d *deployment) nameOf(n *Node) string {
	if d.clone != nil {
		if name := d.clone.nameOf(n.MAC, n.Number); name != "" && d.clone.Plan.Identity.Mode != wire.IdentitySame {
			return name
		}
	}
	return cmp.Or(n.Hostname, fmt.Sprintf("node%d", n.Number))
}

// hands are the agents of nodes, and the nodes that have none at the moment
// and ought to: those that were named, and those in stage 2.
func (d *deployment) hands(nodes []*Node, named bool) (list []*agent, without []*Node) {
	for _, n := range nodes {
		a, _ := d.server.agents.of(n.Number)
		switch s := n.State(); {
		case a != nil:
			list = append(list, a)
		case named, n.Stage == wire.Stage2 && s != status.Released && s != status.Failed:
			without = append(without, n)
		}
	}
	return list, without
}

// execVerb answers the administrator's exec.
func (d *deployment) execVerb(w http.ResponseWriter, r *http.Request) {
	var q ExecRequest
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRegister))
	in.DisallowUnknownFields()
	err := in.Decode(&q)
	if err == nil {
		err = wire.CheckArgv(q.Argv)
	}
	if err == nil && (q.Limit < time.Second || q.Limit > MaxExecTime) {
		err = fmt.Errorf("a limit of %s: want 1s to %s", q.Limit, MaxExecTime)
	}
	var nodes []*Node
	if err == nil {
		nodes, err = d.pick(q.Nodes)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	list, without := d.hands(nodes, !slices.Contains(q.Nodes, AllNodes))
	if len(list) == 0 {
		http.Error(w, "no node of these is in stage 2 and connected", http.StatusConflict)
		return
	}
	names := map[int]string{}
	d.mu.Lock()
	for _, n := range nodes {
		names[n.Number] = d.nameOf(n)
	}
	d.mu.Unlock()
	// An argument may be a password.
	d.Log.Info("the administrator runs a program", "nodes", len(list), "program", printable(q.Argv[0]), "arguments", len(q.Argv)-1)
	w.Header().Set("Content-Type", "application/x-ndjson")
	c := http.NewResponseController(w)
	c.SetWriteDeadline(time.Now().Add(q.Limit + 2*execGrace))
	enc := json.NewEncoder(w)
	e := &execution{argv: q.Argv, limit: q.Limit, name: func(number int) string { return names[number] }, direct: q.Direct,
		emit: func(v ExecEvent) error {
			if err := enc.Encode(v); err != nil {
				return err
			}
			return c.Flush()
		}}
	if e.emit(ExecEvent{Nodes: len(list) + len(without)}) != nil {
		return
	}
	for _, n := range without {
		why := fmt.Sprintf("no connection to its agent (%s)", n.State())
		if e.emit(ExecEvent{Number: n.Number, Node: names[n.Number], Lost: why, Last: true}) != nil {
			return
		}
	}
	if err := d.server.exec(r.Context(), e, list); err != nil {
		d.Log.Info("the program was ended early", "err", err)
	}
}

// ErrNoNode is wrapped where nothing was run anywhere.
var ErrNoNode = errors.New("nothing was run")

// Exec has a program run, and is told what comes of it until every node has
// ended. The end of ctx ends the programs.
func (a Admin) Exec(ctx context.Context, q ExecRequest, told func(ExecEvent) error) error {
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+a.Control+execPath+"?session="+url.QueryEscape(a.Session), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: %w", a.Control, err)
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: trust.ClientConfig(a.Identity, a.Identity.Pin), DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("%w: ask the golden node of session %s: %w: %w", ErrNoNode, a.Session, ErrNotRunning, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // as far as it comes
		return fmt.Errorf("%w: golden node %s: %s", ErrNoNode, a.Control, strings.TrimSpace(string(b)))
	}
	return readEvents(resp.Body, told)
}

// readEvents reads an exec to its end.
func readEvents(r io.Reader, told func(ExecEvent) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 4<<10), wire.MaxExecFrame)
	nodes, ended := 0, 0
	for in.Scan() {
		var v ExecEvent
		if err := json.Unmarshal(in.Bytes(), &v); err != nil {
			return fmt.Errorf("read golden's answer: %w", err)
		}
		nodes += v.Nodes
		if v.Last {
			ended++
		}
		if err := told(v); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read golden's answer: %w", err)
	}
	if ended < nodes {
		return fmt.Errorf("golden's answer ended early: of %d nodes %d had ended", nodes, ended)
	}
	return nil
}
