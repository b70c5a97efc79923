#!/bin/bash
# golden-root.sh full|cloud|lab DIR
#
# Makes a small but whole Debian 12 root file system in the new directory DIR:
# kernel, GRUB for BIOS and UEFI, ssh server, initramfs-tools. "full" has the kernel for
# real hardware, "cloud" the small one for virtual machines, "lab" the former
# without drivers that no virtual machine needs, and with the programs for all
# file systems, LVM, RAID and LUKS. What mmdebstrap makes is kept as .cache/golden-KIND-HASH.tar, where HASH is of this script:
# whoever changes a line below gets a new root.
#
# It stands for a golden node that somebody installed by hand, so it has an
# identity of its own (machine-id, ssh keys, host name, leases) that no clone
# may have.
set -euo pipefail

kind=${1:?usage: golden-root.sh full|cloud|lab DIR}
dir=${2:?usage: golden-root.sh full|cloud|lab DIR}
top=$(cd "$(dirname "$0")/.." && pwd)

case $kind in
full | lab) kernel=linux-image-amd64 ;;
cloud) kernel=linux-image-cloud-amd64 ;;
*)
	echo "golden-root.sh: $kind: must be full, cloud or lab" >&2
	exit 2
	;;
esac
packages=$kernel,grub-pc,openssh-server,systemd-sysv,udev,kmod,iproute2,initramfs-tools,zstd,e2fsprogs
# One root for machines with a BIOS and with UEFI: grub-pc can't be installed
# beside grub-efi-amd64, but beside all that the latter is made of.
packages+=,grub-efi-amd64-bin,grub-efi-amd64-signed,shim-signed,dosfstools,efibootmgr
lean=()
if [ "$kind" = lab ]; then
	packages+=,lvm2,mdadm,cryptsetup-initramfs,btrfs-progs,xfsprogs,jfsutils,reiserfsprogs,f2fs-tools
	# What is not there needs neither be copied nor compared.
	for d in doc man locale info lintian; do
		lean+=("--dpkgopt=path-exclude=/usr/share/$d/*")
	done
fi

# trim ROOT: only the modules that a virtual machine can use, no RSA key (making
# another one takes an emulated processor half a minute), and none of what no
# program of a clone that boots asks for: half of the bytes.
trim() {
	local modules
	rm -rf "$1"/usr/{bin,share}/python3* "$1"/usr/lib/python3* "$1"/usr/lib/x86_64-linux-gnu/libicu* \
		"$1"/usr/share/perl "$1"/usr/lib/x86_64-linux-gnu/perl "$1"/usr/lib/udev/hwdb* \
		"$1"/usr/lib/grub/*/monolithic "$1"/usr/lib/grub/x86_64-efi-signed/{gcd,grubnet}*
	find "$1/usr/share/zoneinfo" -mindepth 1 -maxdepth 1 ! -name Etc ! -name UTC -exec rm -rf {} +
	modules=$(echo "$1"/lib/modules/*)
	find "$modules/kernel" -name '*.ko' | sed "s,^$modules/kernel/,," |
		grep -vE '^(arch|block|crypto|lib|mm|virt)/|^fs/(ext4|jbd2|xfs|btrfs|jfs|reiserfs|f2fs|fat|nls|autofs|efivarfs|fuse|configfs|overlayfs|squashfs|quota|mbcache|binfmt_misc)|^net/(core|802|llc|ipv6|packet|unix|netlink)/|^drivers/(md|nvme/host|nvme/common|ata|block|virtio|char/hw_random|firmware|input|cdrom|nvdimm|dax|mmc)/|^drivers/scsi/[^/]*$|^drivers/net/(virtio_net|net_failover|ethernet/intel/e1000)' |
		(cd "$modules/kernel" && xargs rm -f lib/test_*)
	find "$modules/kernel" -depth -type d -empty -delete
	chroot "$1" depmod "$(basename "$modules")"
	sed -i 's/console=ttyS0,115200/& mitigations=off/' "$1/etc/default/grub"
	rm -f "$1"/etc/ssh/ssh_host_rsa_key*
	# shellcheck disable=SC2016 # expanded by the other shell
	unshare --mount --propagation private bash -c 'mount -t proc proc "$1/proc" && chroot "$1" update-initramfs -u -k all' bash "$1"
}

# configure ROOT: what the person who installed the golden node typed.
configure() {
	local root=$1
	echo golden >"$root/etc/hostname"
	printf '127.0.0.1 localhost\n127.0.1.1 golden.example.org golden\n' >"$root/etc/hosts"
	echo 5f4dcc3b5aa765d61d8327deb882cf99 >"$root/etc/machine-id"
	cat >"$root/etc/fstab" <<-'END'
		# device	mount point	type	options	dump	pass
		/dev/sda1	/	ext4	errors=remount-ro	0	1
		/dev/sda6	/home	ext4	defaults,nodev	0	2
		/dev/sda5	none	swap	sw	0	0
	END
	cat >"$root/etc/default/grub" <<-'END'
		GRUB_DEFAULT=0
		GRUB_TIMEOUT=0
		GRUB_DISTRIBUTOR="Debian"
		GRUB_CMDLINE_LINUX_DEFAULT="quiet"
		GRUB_CMDLINE_LINUX="console=ttyS0,115200 no_timer_check norandmaps"
		GRUB_TERMINAL=console
		GRUB_DISABLE_OS_PROBER=true
	END
	mkdir -p "$root/etc/systemd/network" "$root/etc/initramfs-tools/conf.d" "$root/var/lib/dhcp" "$root/etc/udev/rules.d"
	printf '[Match]\nName=e*\n\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/lan.network"
	chroot "$root" systemctl -q enable systemd-networkd
	# What a golden node has gathered in its life, and a clone must not have.
	echo 'RESUME=/dev/sda5' >"$root/etc/initramfs-tools/conf.d/resume"
	# Gathering all modules for an initrd takes thousands of processes, an
	# emulated processor ten minutes. Whoever knows his machines names theirs.
	echo 'COMPRESSLEVEL=1' >"$root/etc/initramfs-tools/conf.d/compress"
	echo 'MODULES=list' >"$root/etc/initramfs-tools/conf.d/modules"
	printf '%s\n' virtio_pci virtio_blk ata_piix ahci sd_mod crc32c_generic ext4 >>"$root/etc/initramfs-tools/modules"
	echo 'SUBSYSTEM=="net", ATTR{address}=="02:00:00:00:00:99", NAME="eth0"' >"$root/etc/udev/rules.d/70-persistent-net.rules"
	printf 'lease {\n  interface "eth0";\n  fixed-address 192.0.2.99;\n}\n' >"$root/var/lib/dhcp/dhclient.eth0.leases"
	head -c 512 /dev/urandom >"$root/var/lib/systemd/random-seed"
	# A laboratory's machine: its console needs no password.
	chroot "$root" passwd -q -d root
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
}

hash=$(sha256sum "$0" | cut -c1-16)
tar=${GOLDEN_CACHE:-$top/.cache}/golden-$kind-$hash.tar

# build fills the cache; one at a time, and never with half a root.
build() {
	local work
	work=$(mktemp -d "$(dirname "$tar")/golden.XXXXXX")
	trap 'rm -rf --one-file-system "$work"' EXIT
	echo "golden-root.sh: making a Debian root ($kind)"
	unshare --mount --propagation private \
		mmdebstrap --quiet --mode=root --variant=minbase "${lean[@]}" --include="$packages" bookworm "$work/root"
	configure "$work/root"
	[ "$kind" != lab ] || trim "$work/root"
	tar -C "$work/root" --xattrs --xattrs-include='*' --acls --numeric-owner -cf "$work/tar" .
	mv "$work/tar" "$tar"
	rm -rf --one-file-system "$work"
	trap - EXIT
}

mkdir -p "$(dirname "$tar")"
exec 9>"$tar.lock"
flock 9
[ -s "$tar" ] || build
flock -u 9

mkdir "$dir"
tar -C "$dir" --xattrs --xattrs-include='*' --acls --numeric-owner -xpf "$tar"
