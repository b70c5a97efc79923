#!/bin/sh
# The Debian packages that mkimage needs, installed if they are missing. Says
# nothing and changes nothing where all are there.
#
#   mksquashfs              squashfs-tools
#   pxelinux.0, ldlinux.c32 pxelinux, syslinux-common
#   dpkg-deb, apt-get       the machine's own
#   shim, GRUB, iPXE        not installed: mkimage unpacks their packages aside
#   stage 2's programs      e2fsprogs, dosfstools, fdisk, util-linux, mount
#   its others              not installed: mkimage unpacks them aside, too, as lvm2
#                           or mdadm would change this machine
set -eu

packages='squashfs-tools pxelinux syslinux-common e2fsprogs dosfstools fdisk util-linux mount ca-certificates'

missing=
for p in $packages; do
	case $(dpkg-query -W -f '${Status}' "$p" 2>/dev/null || true) in
	'install ok installed') ;;
	*) missing="$missing $p" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "deps-image: as root: apt-get install$missing" >&2
	exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
echo "deps-image: installing$missing" >&2
# shellcheck disable=SC2086 # a list of words
if ! { apt-get -q -o DPkg::Lock::Timeout=300 update &&
	apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing; } >"$log" 2>&1; then
	cat "$log" >&2
	echo "deps-image: could not install$missing" >&2
	exit 1
fi
