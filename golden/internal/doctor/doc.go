// Package doctor finds out why machines don't boot from the network. It looks
// at this machine and its files, asks each service as a machine that boots
// would, listens to what the machines ask and get, and says in words what is
// wrong and what to do. It isn't a monitor: it looks once, repairs nothing and
// leaves nothing behind.
//
//	files, ports, interface ──┐
//	the running golden-serve ─┼─▶ checks ──▶ []Finding ──▶ text or JSON
//	the wire, for a while ────┘
//
// Each check is a function that returns findings; a finding's ID is stable
// and listed in docs/netboot.md.
package doctor
