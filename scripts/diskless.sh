#!/bin/bash
# diskless.sh: make diskless [PACKAGES="a b"] [KEYS=~/.ssh/id_ed25519.pub]
#             [FORMAT=sqfs|ext4|tree] [MODULES=some|all|none]
#
# Makes an image that machines without disks run in their memory, out of
# packages' names: a small Debian with systemd and an ssh server, and with
# PACKAGES besides. Then everything is left out that such a machine has no use
# for. golden-serve run sends it.
#
# Root logs in by ssh, with one of the KEYS (a file as authorized_keys has it);
# there is no password, neither an empty one.
#
# Results: images/diskless.sqfs (or .img, or the folder diskless.tree), and
# diskless.packages, which says what is in it. What mmdebstrap makes is kept as
# .cache/diskless-HASH.tar; HASH is of how, and of all names. It is as old as its
# packages: after 30 days it is made anew, and before by removing it.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
images=${IMAGES:-$top/images}
out=${OUT:-$images}
cache=${DISKLESS_CACHE:-$top/.cache}
format=${FORMAT:-sqfs}
which=${MODULES:-some}
keys=${KEYS:-}
keys=${keys/#\~\//$HOME/}

die() {
	echo "diskless.sh: $*" >&2
	exit 2
}

[ "$(id -u)" = 0 ] || die "must be root: it makes a root file system"
case $format in sqfs | ext4 | tree) ;; *) die "FORMAT=$format: must be sqfs, ext4 or tree" ;; esac
case $which in some | all | none) ;; *) die "MODULES=$which: must be some, all or none" ;; esac
mandatory=(systemd-sysv udev kmod dbus iproute2 passwd login openssh-server procps iputils-ping less)
read -ra wanted <<<"${PACKAGES:-}"
for p in "${wanted[@]}"; do
	[[ $p =~ ^[a-z0-9][a-z0-9+.-]+$ ]] || die "PACKAGES: \"$p\" is no package's name"
done
if [ -n "$keys" ]; then
	[ -s "$keys" ] || die "KEYS=$keys: no such file, or it is empty"
	ssh-keygen -l -f "$keys" >/dev/null || die "KEYS=$keys: no public keys, as authorized_keys has them"
fi
if [ "$which" != none ]; then
	[ -s "$images/manifest.json" ] || die "$images has no manifest.json, which says which kernel the machines boot: run make image first, or give MODULES=none"
	release=$(sed -n 's/.*"release": *"\([A-Za-z0-9.+_-]*\)".*/\1/p' "$images/manifest.json" | head -1)
	modules=
	for d in "$top"/images/.cache/kernel/*/lib/modules/"$release" "$images"/.cache/kernel/*/lib/modules/"$release" /lib/modules/"$release"; do
		[ ! -d "$d/kernel" ] || { modules=$d && break; }
	done
	[ -n "$modules" ] || die "the modules of kernel $release are neither in $images/.cache nor in /lib/modules: give MODULES=none"
fi

# bootstrap ROOT: what mmdebstrap makes of the names.
bootstrap() {
	local list
	list=$(IFS=, && echo "${mandatory[*]}${wanted[*]:+,${wanted[*]}}")
	echo " - mandatory packages: ${mandatory[*]}"
	echo " - your choice: ${wanted[*]:-none}"
	unshare --mount --propagation private \
		mmdebstrap --quiet --mode=root --variant=minbase --include="$list" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
		bookworm "$1"
}

# configure ROOT: a machine without disks, that is told who it is when it boots.
configure() {
	local root=$1 unit
	rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/hostname "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id "$root"/etc/resolv.conf
	: >"$root/etc/fstab"
	printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
	cat >"$root/etc/ssh/sshd_config.d/diskless.conf" <<-'END'
		PermitRootLogin prohibit-password
		PasswordAuthentication no
		KbdInteractiveAuthentication no
		PermitEmptyPasswords no
	END
	chroot "$root" usermod -p '*' root
	mkdir -p -m 700 "$root/root/.ssh"
	[ -z "$keys" ] || install -m 600 "$keys" "$root/root/.ssh/authorized_keys"
	# Logs in memory, and not too many of them; nothing that tends disks.
	mkdir -p "$root/etc/systemd/journald.conf.d"
	printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n' >"$root/etc/systemd/journald.conf.d/diskless.conf"
	for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer man-db.timer; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
	chroot "$root" systemctl -q enable systemd-networkd ssh
	chroot "$root" systemctl -q disable systemd-networkd-wait-online 2>/dev/null || true
	# The manual's place for what every node does when it has started. A folder
	# given with golden-serve run --render may have another one.
	mkdir -p "$root/ka"
	cat >"$root/ka/go" <<-'END'
		#!/bin/sh
		# Runs on each machine when it has started, as root.
		exit 0
	END
	chmod 755 "$root/ka/go"
	cat >"$root/etc/systemd/system/ka-go.service" <<-'END'
		[Unit]
		Description=/ka/go
		ConditionFileIsExecutable=/ka/go
		After=network.target ssh.service

		[Service]
		Type=oneshot
		RemainAfterExit=yes
		ExecStart=/ka/go

		[Install]
		WantedBy=multi-user.target
	END
	chroot "$root" systemctl -q enable ka-go.service
	printf -- '-- \n-- diskless mode: what is written here is gone after a reboot\n-- \n' >"$root/etc/motd"
}

# modules ROOT: of the kernel that the machines boot. Their network is up
# already; what is here is for disks, file systems, and networks inside.
modules() {
	local to=$1/lib/modules/$release
	[ "$which" != none ] || return 0
	mkdir -p "$to"
	if [ "$which" = all ]; then
		cp -a "$modules/kernel" "$to/"
	else
		(cd "$modules" && find kernel -name '*.ko*' | grep -E '^kernel/(arch|block|crypto|lib|mm|virt)/|^kernel/fs/(ext4|jbd2|xfs|btrfs|fat|exfat|nls|autofs|fuse|overlayfs|squashfs|isofs|quota|nfs|nfs_common|lockd|netfs|fscache|configfs|mbcache|binfmt_misc|efivarfs)|^kernel/net/(core|802|8021q|bridge|bonding|ipv4|ipv6|key|llc|netfilter|netlink|packet|sched|sunrpc|unix|vmw_vsock|xfrm)|^kernel/drivers/(ata|block|cdrom|char/(hw_random|ipmi)|cpufreq|dax|firmware|hid|hwmon|input|md|message|mmc|nvdimm|nvme|powercap|usb/(storage|host|core|common)|vhost|virtio)/|^kernel/drivers/scsi/([^/]*|aacraid/.*|megaraid/.*|mpt3sas/.*|hpsa.*|isci/.*|device_handler/.*|smartpqi/.*)$|^kernel/drivers/net/([^/]*|bonding/.*|vxlan/.*|wireguard/.*|ipvlan/.*)$|^kernel/drivers/(thermal|acpi|edac|platform/x86)/' |
			grep -vE '/test_|_test\.ko|kunit' | cpio -pdm --quiet "$to")
	fi
	cp "$modules"/modules.{builtin,builtin.modinfo,order} "$to/"
	# Of a module that went along, all that it needs.
	while read -r need; do
		[ -e "$to/$need" ] || { mkdir -p "$(dirname "$to/$need")" && cp "$modules/$need" "$to/$need"; }
	done < <(needs "$to")
	depmod -b "$1" "$release"
}

# needs TO: files that modules below TO depend on.
needs() {
	local dep
	dep=$modules/modules.dep
	if [ ! -s "$dep" ]; then # a package unpacked aside has none yet
		dep=$(mktemp)
		depmod -n -b "${modules%/lib/modules/*}" "$release" 2>/dev/null | awk '/^kernel\/[^ ]*: ?/ || /^kernel\/[^ ]*:$/' >"$dep"
	fi
	(cd "$1" && find kernel -name '*.ko*') | awk -v dep="$dep" '
		BEGIN { while ((getline line < dep) > 0) { n = split(line, w, /:? +|:$/); m = w[1]; sub(/:$/, "", m); for (i = 2; i <= n; i++) all[m] = all[m] " " w[i] } }
		{ n = split(all[$1], w, " "); for (i = 1; i <= n; i++) print w[i] }' | sort -u
	[ "$dep" = "$modules/modules.dep" ] || rm -f "$dep"
}

# trim ROOT: the manual's list, for a Debian.
trim() {
	local root=$1
	echo " - reduce its size"
	chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' >"$work/packages"
	# A package's own copies of itself, and the tools that would use them.
	rm -rf "$root"/var/lib/apt "$root"/var/lib/dpkg "$root"/var/cache/* "$root"/var/log/* "$root"/var/backups/*
	mkdir -p "$root"/var/lib/dpkg # some scripts look for it
	rm -rf "$root"/usr/share/man "$root"/usr/share/info "$root"/usr/share/locale "$root"/usr/share/lintian \
		"$root"/usr/share/doc-base "$root"/usr/share/bug "$root"/usr/share/menu "$root"/usr/share/pixmaps "$root"/usr/share/gtk-doc \
		"$root"/usr/share/bash-completion "$root"/usr/share/zsh "$root"/usr/share/fish
	rm -rf "$root"/boot/* "$root"/core "$root"/usr/lib/grub "$root"/usr/X11R6 "$root"/etc/X11 "$root"/etc/apt/apt.conf.d/99mmdebstrap
	find "$root"/usr -path '*/unicore/*.txt' -delete
	find "$root"/usr/lib/locale -mindepth 1 -maxdepth 1 ! -name C.utf8 -exec rm -rf {} + 2>/dev/null || true
	rm -rf "$root"/tmp/* "$root"/run/* "$root"/dev/*
	chmod 1777 "$root/tmp"
}

hash=$({ declare -f bootstrap && echo "${mandatory[*]} ${wanted[*]}"; } | sha256sum | cut -c1-16)
tar=$cache/diskless-$hash.tar
mkdir -p "$out" "$cache"
work=$(mktemp -d "$cache/diskless.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
exec 9>"$tar.lock"
flock 9
# The names stay the same while the packages get their security updates.
maxdays=30
if [ -s "$tar" ] && [ -n "$(find "$tar" -mmin -$((maxdays * 24 * 60)))" ]; then
	echo "diskless.sh: the Debian root of $(date -r "$tar" +%F), with the packages of that day (without $tar a new one is made)"
else
	[ ! -s "$tar" ] || echo "diskless.sh: the Debian root of $(date -r "$tar" +%F) is older than $maxdays days"
	echo "diskless.sh: making a Debian root"
	bootstrap "$work/root"
	tar -C "$work/root" --xattrs --xattrs-include='*' --acls --numeric-owner -cf "$work/tar" .
	mv "$work/tar" "$tar"
	rm -rf --one-file-system "$work/root"
fi
flock -u 9
mkdir "$work/root"
tar -C "$work/root" --xattrs --xattrs-include='*' --acls --numeric-owner -xpf "$tar"
chmod 755 "$work/root"
du -sm "$work/root" | awk '{ printf " - size of the root: %d MB\n", $1 }'
configure "$work/root"
trim "$work/root"
modules "$work/root"
du -sm "$work/root" | awk '{ printf " - without what it needs not: %d MB\n", $1 }'

case $format in
sqfs)
	result=$out/diskless.sqfs
	mksquashfs "$work/root" "$work/image" -quiet -no-progress -noappend -comp zstd -Xcompression-level 15 -b 256K
	;;
ext4)
	result=$out/diskless.img
	# The lower layer of what is run: it needs no room of its own.
	mke2fs -q -t ext4 -m 0 -L diskless -O ^has_journal -d "$work/root" "$work/image" "$(du -sm "$work/root" | awk '{ print int($1 * 1.15) + 32 }')M"
	;;
tree)
	result=$out/diskless.tree
	rm -rf --one-file-system "$result"
	mv "$work/root" "$work/image"
	;;
esac
mv "$work/image" "$result"
mv "$work/packages" "$out/diskless.packages"
du -sm "$result" | awk -v f="$result" '{ printf " - size of %s: %d MB\n", f, $1 }'
[ -n "$keys" ] || echo "diskless.sh: no KEYS: nobody can log in. Give KEYS=~/.ssh/id_ed25519.pub" >&2
echo " - now send it:  golden-serve run -n 3 $result"
