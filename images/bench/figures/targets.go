package figures

import (
	"math"
)

// Names of peers and of figures that targets look for.
const (
	Iperf3  = "iperf3"
	Udpcast = "udpcast"
	Chain   = "socat, tee"
	Tar     = "tar to tar"
	One     = "1 receiver"
	Small   = "source 256 MiB" // or what --quick has for it
	Budget  = "256 MiB"

	Transfer   = "transfer"
	RootTree   = "golden root"
	RootAuto   = RootTree + ", compress auto"
	SmallFiles = "small files"
	Time       = "time"
	HopTime    = "added by each further hop"
	RelayCPU   = "relay, CPU s/GB"
	HeadRSS    = "head, peak memory"
	RelayRSS   = "relay, peak memory"
	HeadGrowth = "head, growth with the source"

	DHCPRate  = "DHCP, 1 % lost"
	DHCPGoal  = "10,000 a second"
	Storm     = "DHCP, all switched on at once"
	StormGoal = "5 s"
	TFTP      = "TFTP"
	Loss      = "TFTP, 1 % loss each way"
	LossGoal  = "20 s"
	HTTP      = "HTTP"
)

// States of a verdict.
const (
	Met      = "met"
	Missed   = "missed"
	Unknown  = "not measured"
	Informal = "quick, says nothing"
)

// Verdict is a promise and what came of it.
type Verdict struct {
	Promise string  `json:"promise"`
	Bound   float64 `json:"bound"`
	Most    bool    `json:"at_most"` // else at least
	Value   float64 `json:"value"`   // the worst of all figures that it is about
	State   string  `json:"state"`
}

// target is a promise, and which figures' ratios it is about.
type target struct {
	promise string
	bound   float64
	most    bool
	about   func(Figure) bool
}

// targets are those of DESIGN §6 and of the issue that can be measured by
// hosts on one machine. Faults, slow disks and late nodes are tests of their
// own.
var targets = []target{
	{"a: faster than udpcast, plain and TLS, each N", 1, false, func(f Figure) bool { return f.Part == "a" && f.Peer == Udpcast }},
	{"a: 4 receivers, plain: faster than socat and tee, which check nothing", 1, false, func(f Figure) bool {
		return f.Part == "a" && f.Peer == Chain && f.Receivers == 4 && !f.TLS
	}},
	{"b: share of iperf3's rate on a slow link, 1 to 16 receivers", 0.97, false, func(f Figure) bool { return f.Part == "b" && f.Peer == Iperf3 }},
	{"b: time(16) / time(1)", 1.05, true, func(f Figure) bool { return f.Part == "b" && f.What == Time && f.Receivers == 16 }},
	{"c: compressible data beats the link", 1, false, func(f Figure) bool { return f.What == RootAuto && f.Peer == Iperf3 }},
	{"d: small files no slower than tar to tar, slow link", 1, false, func(f Figure) bool { return f.What == SmallFiles && f.Peer == Tar && f.Link != "" }},
	{"d: small files no slower than tar to tar, unshaped", 1, false, func(f Figure) bool { return f.What == SmallFiles && f.Peer == Tar && f.Link == "" }},
	{"f: a relay's memory / 256 MiB, the largest", 1, true, func(f Figure) bool { return f.What == RelayRSS && f.Peer == Budget }},
	{"f: head's growth / (64 bytes a piece and 16 MiB for the collector)", 1, true, func(f Figure) bool { return f.What == HeadGrowth }},
	{"h: DHCP exchanges a second / 10,000", 1, false, func(f Figure) bool { return f.What == DHCPRate && f.Peer == DHCPGoal }},
	{"h: DHCP exchanges a second, against dnsmasq", 1, false, func(f Figure) bool { return f.What == DHCPRate && f.Peer == "dnsmasq" }},
	{"h: 1,000 machines at once, seconds / 5", 1, true, func(f Figure) bool { return f.What == Storm && f.Peer == StormGoal }},
	{"h: TFTP at 1 % loss, the last client's seconds / 20", 1, true, func(f Figure) bool { return f.What == Loss && f.Peer == LossGoal }},
}

// Judge fills the report's verdicts. What --quick measured is no verdict.
func (r *Report) Judge() {
	r.Targets = nil
	for _, t := range targets {
		v := Verdict{Promise: t.promise, Bound: t.bound, Most: t.most, State: Unknown}
		for _, f := range r.Figures {
			if t.about(f) {
				v.take(f.Ratio)
			}
		}
		if r.Quick && v.State != Unknown {
			v.State = Informal
		}
		r.Targets = append(r.Targets, v)
	}
}

// take keeps the worst value.
func (v *Verdict) take(x float64) {
	switch {
	case v.State == Unknown:
		v.Value = x
	case v.Most:
		v.Value = math.Max(v.Value, x)
	default:
		v.Value = math.Min(v.Value, x)
	}
	v.State = Missed
	if v.Most && v.Value <= v.Bound || !v.Most && v.Value >= v.Bound {
		v.State = Met
	}
}
