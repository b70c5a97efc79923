// Package faults is a lab in which the real programs are hurt while they work:
// golden-serve send and karecv run on hosts of their own, at a moment that a
// seed gives a process is killed, a cable pulled, a byte turned, a disk filled,
// and afterwards it is asked whether what the programs said is what happened.
// It knows the programs by their options, output, report and exit status only;
// it is no part of kamethod and nothing of it runs on a node.
//
//	golden 10.79.0.1 ──┐          shaped both ways
//	node 1 10.79.0.11 ─┼─ bridge, in a namespace of its own
//	node N 10.79.0.1N ─┘   ▲
//	                       └ Fault: processes, links, packets, bytes, disks, memory
//
// A namespace has no name: it lives as long as this process holds it, or a
// program in it runs, and programs die with this process. So nothing is left
// behind, however this process ends. Mounts live in a mount namespace that
// Isolate makes.
package faults
