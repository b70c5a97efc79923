#!/bin/sh
# Builds the images twice, from two copies of this checkout in different
# folders with different surroundings, and compares every file. Exit status:
# 0 all equal, 1 some differ (named).
#
#   check-reproducible.sh [--cold]    --cold: the second build starts with an empty Go build cache
#
# The copies share the unpacked kernel package and one key; both are input.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

copy() { # everything git knows or would take, as it is now
	mkdir -p "$1"
	(cd "$top" && git ls-files -z --cached --others --exclude-standard |
		xargs -0 sh -c 'for f; do if [ -e "$f" ]; then printf "%s\0" "$f"; fi; done' sh |
		tar -c --null -T -) | tar -x -C "$1"
}

build() { # folder of the checkout
	(cd "$1" && KAMETHOD_ETC="$work/etc" go run ./cmds/admin/mkimage -q \
		--cache "$top/images/.cache" --out "$work/out" >/dev/null)
	(cd "$work/out" && find . -type f | LC_ALL=C sort | xargs sha256sum) >"$2"
	rm -rf "$work/out"
}

copy "$work/first"
copy "$work/a second folder/with a longer name"
build "$work/first" "$work/first.sums"
if [ "${1-}" = --cold ]; then
	GOCACHE=$work/gocache
	export GOCACHE
fi
umask 077
TZ=Pacific/Auckland SOURCE_DATE_EPOCH=1234567890 \
	build "$work/a second folder/with a longer name" "$work/second.sums"

if diff "$work/first.sums" "$work/second.sums"; then
	cat "$work/first.sums"
	echo 'check-reproducible: both builds are equal'
else
	echo 'check-reproducible: the builds differ' >&2
	exit 1
fi
