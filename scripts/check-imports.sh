#!/bin/bash
# Holds the rooms apart: which package may be built into which. Go's own
# internal/ does the rest. One line for each breach; status 1 if there is any.
set -euo pipefail
cd "$(dirname "$0")/.."
module=$(go list -m)
breaches=0

# forbid WHY PATTERN PACKAGES...: none of the packages' dependencies, direct or
# not, may match the pattern (an extended regular expression of what follows
# the module's path).
forbid() {
	local why=$1 pattern=$2 pkg dep
	shift 2
	[ $# -gt 0 ] || return 0
	while read -r pkg dep; do
		[ "$pkg" != "$dep" ] || continue
		echo "check-imports: ${pkg#"$module"/} reaches ${dep#"$module"/}: $why"
		breaches=$((breaches + 1))
	done < <(go list -f '{{$p := .ImportPath}}{{range .Deps}}{{$p}} {{.}}{{"\n"}}{{end}}' "$@" |
		grep -E "^[^ ]+ $module/($pattern)\$" || true)
}

# those FOLDER...: the packages in and below the folders that are there.
those() {
	local dir
	for dir in "$@"; do
		[ ! -d "$dir" ] || go list "./$dir/..."
	done
}

mapfile -t node < <(those cmds/node)
mapfile -t builder < <(those builder)
mapfile -t golden < <(those golden)
mapfile -t lower < <(those golden/archive golden/wire golden/chain golden/stream golden/layout golden/mangle golden/status golden/trust)
mapfile -t all < <(go list ./...)
mapfile -t rest < <(printf '%s\n' "${all[@]}" | grep -v "^$module/cmds/" || true)
mapfile -t judge < <(those images/compare)

forbid "nothing imports cmds" 'cmds/.*' "${rest[@]}"
forbid "a node never carries the server" 'golden|golden/internal/.*|builder.*' "${node[@]}"
forbid "what nodes carry stands below the server" 'golden|golden/internal/.*' "${lower[@]}"
forbid "builder knows nothing of cloning" 'golden(/.*)?' "${builder[@]}"
forbid "a deployment knows nothing of building" 'builder(/.*)?' "${golden[@]}"
forbid "the judge shares no code with the judged" '(golden|builder|cmds)(/.*)?' "${judge[@]}"

# Every busybox command runs every init of every package it is linked with,
# and one flag set (the flag package's) is shared by all.
while IFS= read -r line; do
	echo "check-imports: $line: an init or a package-level flag runs in every command of a node"
	breaches=$((breaches + 1))
done < <(grep -rnE '^func init\(\)|^var .*= flag\.' --include='*.go' --exclude='*_test.go' \
	cmds/node golden/archive golden/wire golden/chain golden/stream golden/layout golden/mangle golden/status golden/trust 2>/dev/null || true)

while IFS= read -r dir; do
	echo "check-imports: $dir: a name that says nothing"
	breaches=$((breaches + 1))
done < <(find cmds builder golden images templates scripts -name '.*' -prune -o -type d \
	\( -name util -o -name utils -o -name common -o -name helpers -o -name types -o -name models -o -name core -o -name manager \) -print 2>/dev/null || true)

[ "$breaches" -eq 0 ]
