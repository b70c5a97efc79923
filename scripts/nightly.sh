#!/bin/bash
# Builds the images every night and keeps the last ones, as the manual of 2010
# did it for its kernels:
#
#	DEST/builds/kamethod-0r812-3f2a1bc0d9e4/   one folder for each build, named by revision
#	DEST/builds/20261121_0300                  link by date, to what that night gave
#	DEST/builds/last                           link to the newest that is whole
#	DEST/logs/20261121_0300.build.txt          what the build said; …FAILED.txt if it failed
#
# Settings come from the environment:
#
#	DEST    where all this lies (default: /var/lib/kamethod/nightly)
#	KEEP    how many builds stay (default: 7); what last leads to always stays
#	MIRROR  where rsync(1) copies DEST to: host:folder, rsync://host/module or a
#	        folder. A folder named as DEST is made in it, and only in there is deleted
#	UPDATE  1: take over what is new in the source's upstream first (git pull --ff-only)
#	BUILD   program that builds, told the folder for the results (default: mkimage)
#	REV     revision (default: by git)
#	NIGHT   name of the night (default: the time, as 20261121_0300)
#
# EXIT STATUS
#	0   built, and mirrored if so wanted
#	1   the build failed, or made what isn't whole: last and the date are as before
#	2   a setting is wrong
#	3   built, but not mirrored
#	75  another one is at work there
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

say() { printf 'nightly: %s\n' "$*"; }
die() {
	local status=$1
	shift
	say "$*" >&2
	exit "$status"
}

dest=${DEST:-/var/lib/kamethod/nightly}
keep=${KEEP:-7}
mirror=${MIRROR:-}
night=${NIGHT:-$(date +%Y%m%d_%H%M)}
[[ $dest = /* && $dest != / ]] || die 2 "DEST=$dest: want an absolute path"
[[ $keep =~ ^[1-9][0-9]{0,5}$ ]] || die 2 "KEEP=$keep: want a number from 1"
[[ $night =~ ^[0-9]{8}_[0-9]{4}$ ]] || die 2 "NIGHT=$night: want a date and time as 20261121_0300"
[[ -z $mirror ]] || command -v rsync >/dev/null || die 2 "MIRROR=$mirror: rsync isn't installed"
dest=$(realpath -m -- "$dest")
builds=$dest/builds
logs=$dest/logs
log=$logs/$night.build.txt

revision() {
	local rev=${REV:-} count id
	if [ -z "$rev" ]; then
		count=$(git rev-list --count HEAD) && id=$(git describe --always --dirty --exclude='*' --abbrev=12) || return 1
		rev=0r$count-$id
	fi
	[[ $rev =~ ^[0-9A-Za-z][0-9A-Za-z._+-]{0,99}$ ]] || {
		echo "REV=$rev: want letters, digits, dots, plus and minus" >&2
		return 1
	}
	printf %s "$rev"
}

# build OUT makes everything in OUT, and its output is the log.
build() {
	if [ "${UPDATE:-}" = 1 ]; then
		git pull --ff-only
	fi
	if [ -n "${BUILD:-}" ]; then
		"$BUILD" "$1"
		return
	fi
	scripts/deps-image.sh
	go run ./cmds/admin/mkimage --out "$1" --cache "$dest/.cache"
}

# whole OUT: the images are there, and are those that the manifest tells of.
whole() {
	local f sum
	for f in vmlinuz all.rdz rescue.sqfs manifest.json; do
		[ -s "$1/$f" ] || {
			echo "nightly: the build made no $f"
			return 1
		}
	done
	for f in vmlinuz all.rdz rescue.sqfs; do
		sum=$(sha256sum <"$1/$f") || return 1
		grep -qF "\"${sum%% *}\"" "$1/manifest.json" || {
			echo "nightly: $f isn't the one of manifest.json"
			return 1
		}
	done
}

# point LINK TARGET: by a rename, so that the link is there at every moment.
point() {
	ln -sfn -- "$2" "$builds/.link"
	mv -fT -- "$builds/.link" "$builds/$1"
}

# place OUT REV: gives the build its name. The same bytes again are the same
# build; other bytes of the same revision (a new kernel package) are another.
place() {
	local name=kamethod-$2 n=1
	while [ -e "$builds/$name" ]; do
		if cmp -s "$1/manifest.json" "$builds/$name/manifest.json" && whole "$builds/$name" >/dev/null; then
			rm -rf -- "$1"
			break
		fi
		n=$((n + 1))
		name=kamethod-$2.$n
	done
	if [ -e "$1" ]; then
		chmod 755 -- "$1"
		mv -T -- "$1" "$builds/$name"
	fi
	date +%s%N >"$builds/$name/.built.new"
	mv -f -- "$builds/$name/.built.new" "$builds/$name/.built" # by this, and nothing else, builds are old or new
	sync -f "$builds/$name"
	printf %s "$name"
}

# prune deletes the oldest builds beyond KEEP, and links by date that lead
# nowhere then. A folder without a time of ours isn't ours to delete.
prune() {
	local last dir when n=0
	last=$(readlink -- "$builds/last" || true)
	for dir in "$builds"/kamethod-*/; do
		dir=${dir%/}
		[ ! -L "$dir" ] && read -r when 2>/dev/null <"$dir/.built" && [[ $when =~ ^[0-9]+$ ]] || continue
		printf '%s %s\0' "$when" "${dir##*/}"
	done | sort -z -k1,1nr | while IFS=' ' read -r -d '' when dir; do
		n=$((n + 1))
		if [ "$n" -gt "$keep" ] && [ "$dir" != "$last" ]; then
			say "deleting $dir"
			mv -T -- "$builds/$dir" "$builds/.old"
			rm -rf -- "$builds/.old"
		fi
	done
	for dir in "$builds"/*; do
		if [[ ${dir##*/} =~ ^[0-9]{8}_[0-9]{4}$ && -L $dir && ! -e $dir ]]; then
			say "deleting ${dir##*/}, whose build is gone"
			rm -f -- "$dir"
		fi
	done
}

# copy: the builds first, then the links to them and what has to go.
copy() {
	local -a to=(rsync -aHs --exclude=/*/.cache --exclude=/*/.lock --exclude=/*/builds/.new --exclude=/*/builds/.old --exclude=/*/builds/.link)
	"${to[@]}" --no-links --info=nonreg0 -- "$dest" "$mirror/" && "${to[@]}" --delete -- "$dest" "$mirror/"
}

mkdir -p -- "$builds" "$logs"
exec {lock}>>"$dest/.lock"
flock -n "$lock" || die 75 "another build is at work in $dest"
rm -rf -- "$builds/.new" "$builds/.old" "$builds/.link" # of one that was killed

out=$builds/.new
mkdir -- "$out"
failed() {
	rm -rf -- "$out"
	mv -f -- "$log" "${log%.build.txt}.FAILED.txt"
	tail -n 20 -- "${log%.build.txt}.FAILED.txt" >&2
	die 1 "$1; all it said is in ${log%.build.txt}.FAILED.txt, and last is as it was"
}
say "building in $builds, log in $log"
# Not "if build": in a condition the shell would go on after an error in it.
set +e
(
	set -e
	build "$out" {lock}>&-
) >"$log" 2>&1 </dev/null
status=$?
set -e
[ "$status" = 0 ] || failed "the build failed with status $status"
rev=$(revision 2>>"$log") || failed "no revision"
whole "$out" >>"$log" 2>&1 || failed "the build isn't whole"
name=$(place "$out" "$rev")
point "$night" "$name"
point last "$name"
say "built $name"
prune
if [ -n "$mirror" ]; then
	copy || die 3 "rsync to $mirror failed; the build itself is whole"
	say "mirrored to $mirror"
fi
