// Package golden is a deployment as the golden node sees it: who takes part,
// what they are told and when, and when they may go. It is not how bytes flow
// (package chain), nor how machines boot (golden/internal/netboot).
//
//	            ┌ control server ┐  register, orders, reports
//	nodes ◀────▶│ Server         │
//	            └──────┬─────────┘
//	  Send, Clone ─────┤ the order of things
//	                   └ chain.Head ─▶ first node ─▶ …
package golden
