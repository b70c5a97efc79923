#!/bin/bash
# Installs the Debian packages that make test and make demo need, those that
# are missing. Says nothing where all are there. Nothing is started: a server
# that came with a package would answer on the real network.
#
#	setup.sh          install
#	setup.sh --list   print the packages
set -euo pipefail
cd "$(dirname "$0")"

packages=(
	ca-certificates procps kmod zstd xz-utils cpio ncompress    # basics
	gcc libc6-dev                                                # the race detector is linked with C
	iproute2 nftables                                            # networks in namespaces
	util-linux mount fdisk gdisk e2fsprogs attr acl libcap2-bin  # disks and files, and their outside judges
	btrfs-progs xfsprogs f2fs-tools jfsutils reiserfsprogs       # the other file systems, and their judges
	lvm2 mdadm cryptsetup-bin partclone ntfs-3g                  # what partitions can be made into, and blocks
	qemu-system-x86 seabios ipxe-qemu                            # machines that boot from the network
	ovmf dosfstools mtools                                       # those with UEFI, their EFI system partition, and its outside judge
	mmdebstrap openssh-client                                    # the golden root, and who makes host keys
	squashfs-tools pxelinux syslinux-common                      # what make image puts together
	pci.ids usb.ids pciutils                                     # devices' names, and who else reads them
	squashfs-tools-ng libarchive-tools cloop-utils genisoimage   # stage 2 on top of another image
	dropbear-bin                                                 # host keys of the other kind
	dnsmasq-base busybox-static isc-dhcp-client curl tftp-hpa    # real peers for DHCP, TFTP and HTTP
	isc-dhcp-server kea-dhcp4-server tftpd-hpa xinetd            # whose files golden-serve config writes
	rsync udpcast iperf3 socat tar                               # what the chain is measured against
	nfs-ganesha nfs-ganesha-vfs rpcbind vsftpd                   # servers that stage 2 may come from
	rsyslog                                                      # who gets the lines of nodes
)

if [ "${1-}" = --list ]; then
	printf '%s\n' "${packages[@]}"
	exit
fi

missing=()
for p in "${packages[@]}"; do
	[ "$(dpkg-query -Wf '${db:Status-Status}' "$p" 2>/dev/null || true)" = installed ] || missing+=("$p")
done

if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "setup.sh: must be root to install: ${missing[*]}" >&2
		exit 1
	fi
	log=$(mktemp)
	policy=/usr/sbin/policy-rc.d
	trap 'rm -f "$log"; [ -z "${policy_ours-}" ] || rm -f "$policy"' EXIT
	if [ ! -e "$policy" ]; then
		policy_ours=1
		printf '#!/bin/sh\nexit 101\n' >"$policy" # "action forbidden by policy", invoke-rc.d(8)
		chmod +x "$policy"
	fi
	echo "setup.sh: installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	if ! { apt-get -q -o DPkg::Lock::Timeout=300 update &&
		apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		cat "$log" >&2
		echo "setup.sh: could not install ${missing[*]}" >&2
		exit 1
	fi
fi

# What a part of the project needs besides is listed by that part.
for more in deps-*.sh; do
	[ ! -e "$more" ] || ./"$more"
done
