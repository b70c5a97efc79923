// Package chain moves numbered pieces from golden down a chain of nodes, and
// keeps the chain whole: Head is golden's end, Link is a node's. It knows
// neither what the pieces are (package stream) nor how golden and its nodes
// talk beside it: orders and reports are handed in and out as values.
//
//	Source ─▶ Head ─frames─▶ Link 1 ─frames─▶ Link 2 ─ … ─▶ Link N
//	           ▲ │             │                │
//	           │ └─ orders ───▶├──────────────▶ │     who is before and after whom
//	           └──── reports ──┴────────────────┘     stored, missing, lost
//	                           ▼                ▼
//	                          Sink             Sink
//
// A Link checks a frame's hash, puts the same buffer into its ring for the
// next node, and then offers the piece to its sink. The ring gives way to
// nobody but the next node; the sink's queue gives way to everybody: when it
// is full the piece goes by and is missing. The head sends laps until nobody
// misses anything, and paces itself so that a share of those who still miss
// pieces keep up with it.
//
// Nodes may hold pieces before they come, of an earlier clone or an earlier
// part of this transfer: they claim them, and what everybody claims is only
// named, not sent. Nodes may come late and come back: what they miss goes
// round in the next lap. A source may change while it is read: at the end of
// the first lap it announces further streams, which replace what has changed.
//
// When a neighbour is gone, golden tells the two beside it; the one before
// dials the one after, hears the last frame it has, and sends on from there
// out of its ring. What the ring has lost comes again in the next lap. A node
// behind a slow link goes to the tail, and what it can't take in time is left
// out for it until it holds nobody up.
package chain
