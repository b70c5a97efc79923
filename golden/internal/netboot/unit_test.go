package netboot

import (
	"net/netip"
)

type netipAddr = netip.Addr

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
