#!/bin/sh
# Installs what the tests of golden/internal/netboot run: real clients, a
# foreign DHCP server, QEMU with its PXE ROMs, PXELINUX; and whom the netboot
# part of make bench holds us against. Debian and its children; does nothing
# where all is there already. No server is started by its package.
set -eu

packages="iproute2 nftables busybox-static isc-dhcp-client tftp-hpa atftp curl
dnsmasq-base pxelinux syslinux-common ipxe-qemu seabios qemu-system-x86
kea-admin tftpd-hpa nginx-light isc-dhcp-server isc-dhcp-relay tcpdump
ovmf shim-signed grub-efi-amd64-signed ipxe"

missing=
for p in $packages; do
	dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "deps-netboot-test: needs root to install:$missing" >&2
	exit 1
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy" # "action forbidden by policy", invoke-rc.d(8)
	chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing
