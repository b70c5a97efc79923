// Package archive reads what is packed: compressed files, tar and cpio
// archives. Both ends use it: golden to see what is in a file before anything
// is sent, the nodes to unpack it. It writes nothing and touches no file
// system; it says of each entry whether it stays within the folder that it is
// for, and the unpacking on a node doesn't rely on that alone.
//
//	boot.tar.Z ─FormOf▶ {tar, Z}
//	bytes ─Decompress(Z)▶ bytes ─Walk(tar)▶ Entry, contents ▶ …
package archive
