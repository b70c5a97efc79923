// Package roster is the list of machines that have to do with a session: how
// far each is, who may boot the image, and a journal of that which survives
// the end of the process. It speaks no protocol and knows no network: package
// golden asks it for the boot servers and for the control server, and tells it
// what has happened.
//
//	          asks          is armed        gets the image     registers         finishes
//	unknown ───────▶ seen ───────────▶ armed ─────────▶ booting ────────▶ cloning ────────▶ done
//	                  ▲                  │                 │                 │  ▲
//	                  └── too long ──────┴─────────────────┘                 ▼  └─ crashed, maxAgain times
//	                      or disarmed                                      failed
//
// moves.go has the whole table, policy.go what a machine in each state hears.
package roster
