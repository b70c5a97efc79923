package doctor

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ruleset is what "nft -j list ruleset" says (libnftables-json(5)), as far as
// it decides on packets that come in.
type ruleset struct {
	chains []nftChain
	rules  map[chainID][]nftRule
	sets   map[setID][]any
	tables []string // names
}

type (
	chainID struct{ family, table, name string }
	setID   struct{ family, table, name string }
)

type nftChain struct {
	chainID
	hook, policy string
	devices      []string // of the hook ingress
}

// nftRule is its statements, each an object with one key.
type nftRule []map[string]any

const maxRuleset = 64 << 20

// parseRuleset reads nft's JSON. What it doesn't know it leaves out.
func parseRuleset(b []byte) (ruleset, error) {
	r := ruleset{rules: map[chainID][]nftRule{}, sets: map[setID][]any{}}
	var all struct {
		Nftables []map[string]json.RawMessage `json:"nftables"`
	}
	if len(b) > maxRuleset {
		return r, fmt.Errorf("nftables rules of %d bytes: at most %d are read", len(b), maxRuleset)
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return r, fmt.Errorf("read nftables rules: %w", err)
	}
	for _, o := range all.Nftables {
		for kind, raw := range o {
			if err := r.take(kind, raw); err != nil {
				return r, fmt.Errorf("read nftables %s: %w", kind, err)
			}
		}
	}
	return r, nil
}

func (r *ruleset) take(kind string, raw json.RawMessage) error {
	var o struct {
		Family, Table, Name, Chain, Hook, Policy string
		Dev                                      any
		Expr                                     []map[string]any
		Elem                                     []any
	}
	switch kind {
	case "table", "chain", "rule", "set", "map":
	default:
		return nil
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	switch kind {
	case "table":
		r.tables = append(r.tables, o.Name)
	case "chain":
		if o.Hook == "" {
			return nil
		}
		c := nftChain{chainID: chainID{o.Family, o.Table, o.Name}, hook: o.Hook, policy: o.Policy}
		for _, d := range listOf(o.Dev) {
			if s, ok := d.(string); ok {
				c.devices = append(c.devices, s)
			}
		}
		r.chains = append(r.chains, c)
	case "rule":
		id := chainID{o.Family, o.Table, o.Chain}
		r.rules[id] = append(r.rules[id], o.Expr)
	default:
		r.sets[setID{o.Family, o.Table, o.Name}] = o.Elem
	}
	return nil
}

// has tells whether there is a table, or a chain of a prefix, that a firewall
// program made.
func (r *ruleset) has(table, chainPrefix string) bool {
	for _, t := range r.tables {
		if table != "" && t == table {
			return true
		}
	}
	for c := range r.rules {
		if chainPrefix != "" && strings.HasPrefix(c.name, chainPrefix) {
			return true
		}
	}
	return false
}

// listOf makes a list of a JSON value that may stand alone.
func listOf(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}
