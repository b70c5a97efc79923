// Package netboot answers machines that boot from the network: DHCP (as the
// network's only server, or as a proxy beside another one), TFTP and HTTP,
// on one interface.
//
// It is not a general DHCP or file server. It keeps no policy: whether a
// machine gets the image, boots its own disk or hears nothing is asked of
// Config.Decide at every packet. No name that a client sends is ever joined
// to a folder: files come from a list made beforehand, boot loader
// configurations are made in memory.
//
//	node (firmware)                         golden node, one interface
//	   | DISCOVER, REQUEST  67/udp  ------->  dhcp.go ---> Decide
//	   | <-- address (full), boot file ----   dhcpfull.go | dhcpproxy.go
//	   | RRQ pxelinux.0     69/udp  ------->  tftp.go --+
//	   | RRQ pxelinux.cfg/01-MAC    ------->  tftp.go --+--> boot.go: allow-list,
//	   | GET images/vmlinuz 8069/tcp ------>  http.go --+    pxelinux.go: LOCALBOOT or image
//
// A file per protocol; what a client architecture is sent stands in the
// table of arch.go.
package netboot
