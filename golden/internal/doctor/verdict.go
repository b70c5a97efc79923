package doctor

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// arrival is a packet of a node as it comes in: the first of its connection.
type arrival struct {
	proto    string // udp or tcp
	port     int
	iface    string
	from     netip.Prefix // where nodes are; a single address where it is known
	to       netip.Addr
	pkttype  string // host or broadcast (nft(8))
	noSocket bool   // is taken by a packet socket: only the hook ingress is before it
}

// ruling is what becomes of a packet.
type ruling struct {
	dropped bool
	sure    bool   // no rule that we can't judge could have decided otherwise
	by      string // which chain
}

// truth of a match: some can't be told without the packet.
type truth int

const (
	no truth = iota
	maybe
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// maxSteps ends the walk through chains that jump to each other many times.
const maxSteps = 20000

// walk is one packet's way through the rules.
type walk struct {
	r           *ruleset
	a           arrival
	id          chainID
	steps       int
	maybeAccept bool
}

// judge finds out what the rules do with a packet. The first chain that drops
// it decides; a chain that accepts it leaves it to the next.
func (r *ruleset) judge(a arrival) ruling {
	unsure := ruling{sure: true}
	steps := 0
	for _, c := range r.chains {
		if !c.sees(a) {
			continue
		}
		w := &walk{r: r, a: a, id: c.chainID, steps: steps}
		verdict := w.chain(c.chainID, 0)
		steps = w.steps
		if verdict == "" {
			verdict = c.policy
		}
		by := fmt.Sprintf("chain %s of table %s %s", c.name, c.family, c.table)
		switch {
		case (verdict == "drop" || verdict == "reject") && !w.maybeAccept:
			return ruling{true, true, by}
		case verdict == "drop" || verdict == "reject":
			unsure = ruling{true, false, by}
		}
	}
	return unsure
}

// sees tells whether packets of an interface to this machine pass a chain.
func (c nftChain) sees(a arrival) bool {
	switch c.hook {
	case "ingress":
		return slices.Contains(c.devices, a.iface)
	case "prerouting", "input":
		return !a.noSocket && (c.family == "ip" || c.family == "inet")
	}
	return false
}

// chain gives accept, drop, reject, or nothing: the packet came to its end.
func (w *walk) chain(id chainID, depth int) string {
	if depth > 16 { // NFT_JUMP_STACK_SIZE (include/net/netfilter/nf_tables.h)
		w.maybeAccept = true
		return ""
	}
	for _, rule := range w.r.rules[id] {
		if v := w.rule(rule, id, depth); v == "return" {
			return ""
		} else if v != "" {
			return v
		}
	}
	return ""
}

// rule gives a verdict, or nothing: it doesn't decide.
func (w *walk) rule(rule nftRule, id chainID, depth int) string {
	if w.steps++; w.steps > maxSteps {
		w.maybeAccept = true
		return "drop"
	}
	matches := yes
	for _, statement := range rule {
		for key, value := range statement {
			switch key {
			case "match":
				matches = min(matches, w.match(value))
			case "limit", "quota", "xt", "queue", "synproxy", "connlimit", "ct count":
				matches = min(matches, maybe)
			case "vmap":
				if v := w.vmap(value, id, depth, matches); v != "" {
					return v
				}
			case "accept", "drop", "reject", "return", "jump", "goto":
				return w.decide(key, value, id, depth, matches)
			}
		}
		if matches == no {
			return ""
		}
	}
	return ""
}

// decide carries a verdict out; one that is uncertain is only remembered.
func (w *walk) decide(key string, value any, id chainID, depth int, matches truth) string {
	if matches == no {
		return ""
	}
	v := key
	if key == "jump" || key == "goto" {
		o, _ := value.(map[string]any)
		target, _ := o["target"].(string)
		v = w.chain(chainID{id.family, id.table, target}, depth+1)
		if key == "goto" && v == "" {
			v = "return"
		}
	}
	if matches == yes {
		return v
	}
	if v == "accept" {
		w.maybeAccept = true
	}
	return ""
}

// vmap looks a verdict up: {"key": what, "data": {"set": [[value, verdict]…]}}.
func (w *walk) vmap(value any, id chainID, depth int, matches truth) string {
	o, _ := value.(map[string]any)
	for _, e := range w.elements(o["data"]) {
		pair := listOf(e)
		if len(pair) != 2 {
			continue
		}
		verdict, _ := pair[1].(map[string]any)
		m := min(matches, w.equal(o["key"], pair[0]))
		for key, arg := range verdict {
			if v := w.decide(key, arg, id, depth, m); v != "" {
				return v
			}
		}
	}
	return ""
}

// elements of a set: written out, or by its name.
func (w *walk) elements(v any) []any {
	switch v := v.(type) {
	case string:
		if name, ok := strings.CutPrefix(v, "@"); ok {
			return w.r.sets[setID{w.id.family, w.id.table, name}]
		}
	case map[string]any:
		if s, ok := v["set"]; ok {
			return listOf(s)
		}
	case []any:
		return v
	}
	return nil
}

func (w *walk) match(value any) truth {
	o, _ := value.(map[string]any)
	op, _ := o["op"].(string)
	switch op {
	case "==", "in", "":
		return w.equal(o["left"], o["right"])
	case "!=":
		return yes - w.equal(o["left"], o["right"])
	}
	n, known := w.number(o["left"])
	if known == no {
		return no
	}
	m, ok := o["right"].(float64)
	if known != yes || !ok {
		return maybe
	}
	switch op {
	case "<":
		return truthOf(n < m)
	case ">":
		return truthOf(n > m)
	case "<=":
		return truthOf(n <= m)
	case ">=":
		return truthOf(n >= m)
	}
	return maybe
}

// equal tells whether what a rule looks at is, or is among, a value.
func (w *walk) equal(left, right any) truth {
	if s, ok := right.(string); ok && strings.HasPrefix(s, "@") {
		return w.among(left, w.elements(s))
	}
	switch r := right.(type) {
	case []any:
		return w.among(left, r)
	case map[string]any:
		if e, ok := r["elem"].(map[string]any); ok { // with a counter, a time-out or a comment
			return w.equal(left, e["val"])
		}
		if _, ok := r["set"]; ok {
			return w.among(left, w.elements(r))
		}
	}
	return w.single(left, right)
}

func (w *walk) among(left any, list []any) truth {
	t := no
	for _, v := range list {
		if pair, ok := v.([]any); ok && len(pair) == 2 { // of a map
			v = pair[0]
		}
		t = max(t, w.equal(left, v))
	}
	return t
}

// number is the port, if that is what a rule looks at. no: the packet has no
// such field.
func (w *walk) number(left any) (float64, truth) {
	o, _ := left.(map[string]any)
	p, _ := o["payload"].(map[string]any)
	if p["field"] != "dport" {
		return 0, maybe
	}
	if p["protocol"] != "th" && p["protocol"] != w.a.proto {
		return 0, no
	}
	return float64(w.a.port), yes
}

// single compares with one value, range or prefix.
func (w *walk) single(left, right any) truth {
	o, _ := left.(map[string]any)
	if p, ok := o["payload"].(map[string]any); ok {
		return w.payload(p, left, right)
	}
	if m, ok := o["meta"].(map[string]any); ok {
		return w.meta(m, right)
	}
	if c, ok := o["ct"].(map[string]any); ok && c["key"] == "state" {
		return truthOf(right == "new")
	}
	return maybe
}

func (w *walk) payload(p map[string]any, left, right any) truth {
	proto, _ := p["protocol"].(string)
	switch p["field"] {
	case "dport":
		n, known := w.number(left)
		if known != yes {
			return known
		}
		return inRange(n, right)
	case "protocol":
		return w.isProto(right)
	case "saddr", "daddr":
		if proto == "ip6" {
			return no
		}
		return w.address(p["field"] == "saddr", right)
	}
	if (proto == "udp" || proto == "tcp") && proto != w.a.proto || proto == "ip6" || strings.HasPrefix(proto, "icmp") {
		return no
	}
	return maybe
}

func inRange(n float64, right any) truth {
	switch r := right.(type) {
	case float64:
		return truthOf(n == r)
	case map[string]any:
		ends := listOf(r["range"])
		if len(ends) != 2 {
			return maybe
		}
		from, ok1 := ends[0].(float64)
		to, ok2 := ends[1].(float64)
		if ok1 && ok2 {
			return truthOf(from <= n && n <= to)
		}
	}
	return maybe
}

func (w *walk) isProto(right any) truth {
	number := map[string]float64{"udp": 17, "tcp": 6}[w.a.proto] // IANA protocol numbers
	return truthOf(right == w.a.proto || right == number)
}

func (w *walk) meta(m map[string]any, right any) truth {
	switch m["key"] {
	case "iif", "iifname":
		s, ok := right.(string)
		if !ok {
			return maybe
		}
		t, err := path.Match(s, w.a.iface) // nft knows a * at the end
		return truthOf(err == nil && t)
	case "l4proto":
		return w.isProto(right)
	case "nfproto":
		return truthOf(right == "ipv4" || right == float64(2)) // NFPROTO_IPV4
	case "protocol":
		return truthOf(right == "ip")
	case "pkttype":
		return truthOf(right == w.a.pkttype || right == "unicast" && w.a.pkttype == "host")
	}
	return maybe
}

// address compares where a packet comes from or goes to.
func (w *walk) address(source bool, right any) truth {
	p, ok := prefixOf(right)
	if !ok {
		return maybe
	}
	ours := w.a.from
	if !source {
		ours = netip.PrefixFrom(w.a.to, w.a.to.BitLen())
	}
	switch {
	case !ours.IsValid():
		return maybe
	case !p.Overlaps(ours):
		return no
	case p.Bits() <= ours.Bits():
		return yes
	}
	return maybe
}

func prefixOf(v any) (netip.Prefix, bool) {
	switch v := v.(type) {
	case string:
		a, err := netip.ParseAddr(v)
		if err != nil {
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(a, a.BitLen()), true
	case map[string]any:
		o, _ := v["prefix"].(map[string]any)
		addr, _ := o["addr"].(string)
		n, _ := o["len"].(float64)
		a, err := netip.ParseAddr(addr)
		if err != nil || n < 0 || n > 128 {
			return netip.Prefix{}, false
		}
		p := netip.PrefixFrom(a, int(n))
		return p, p.IsValid()
	}
	return netip.Prefix{}, false
}
