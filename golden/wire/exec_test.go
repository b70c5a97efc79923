package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/trust"
)

func execOrder(t testing.TB) ExecOrder {
	t.Helper()
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	return ExecOrder{Golden: "ab", Serial: 1, Argv: []string{"uptime"}, Limit: 5, Nodes: []ExecNode{
		{Number: 1, Above: -1, Pin: id.Pin, Nonce: "x"}, {Number: 2, Above: 0, Pin: id.Pin, Nonce: "y", Addr: "10.0.0.1:1"},
	}}
}

func TestExecOrder(t *testing.T) {
	golden, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	o := execOrder(t)
	s, err := SignExec(golden, o)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open(golden.Pin); err != nil || got.Argv[0] != "uptime" || len(got.Nodes) != 2 {
		t.Errorf("golden's order: %+v, %v", got, err)
	}
	forged := s
	forged.Order = []byte(strings.Replace(string(s.Order), "uptime", "reboot", 1))
	if _, err := forged.Open(golden.Pin); err == nil {
		t.Error("an order that was changed on the way is obeyed")
	}
	for what, spoil := range map[string]func(*ExecOrder){
		"a cycle":     func(o *ExecOrder) { o.Nodes[0].Above = 1 },
		"itself":      func(o *ExecOrder) { o.Nodes[1].Above = 1 },
		"below -1":    func(o *ExecOrder) { o.Nodes[1].Above = -2 },
		"twice":       func(o *ExecOrder) { o.Nodes[1].Number = 1 },
		"no program":  func(o *ExecOrder) { o.Argv = nil },
		"no limit":    func(o *ExecOrder) { o.Limit = 0 },
		"zero byte":   func(o *ExecOrder) { o.Argv = []string{"a\x00b"} },
		"too long":    func(o *ExecOrder) { o.Argv = []string{strings.Repeat("a", MaxArgv)} },
		"no serial":   func(o *ExecOrder) { o.Serial = 0 },
		"no nonce":    func(o *ExecOrder) { o.Nodes[0].Nonce = "" },
		"no key":      func(o *ExecOrder) { o.Nodes[0].Pin = trust.Pin{} },
		"empty words": func(o *ExecOrder) { o.Argv = []string{""} },
	} {
		bad := execOrder(t)
		spoil(&bad)
		s, err := SignExec(golden, bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(golden.Pin); err == nil {
			t.Errorf("%s: the order is taken", what)
		}
	}
}

// FuzzExec reads orders that anybody may have made.
func FuzzExec(f *testing.F) {
	b, err := json.Marshal(execOrder(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"golden":"a","serial":1,"argv":["x"],"limit":1,"nodes":[{"number":1,"above":5}]}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseExec(b)
		if err != nil {
			return
		}
		for i, n := range o.Nodes {
			if n.Above >= i || n.Above < -1 {
				t.Errorf("node %d is below %d", i, n.Above)
			}
		}
	})
}
