#!/bin/bash
# Do the tests notice when a node no longer compares pieces with their hashes?
# The build tag kamethod_trusting takes the comparison out: the tests of
# corrupt bytes must pass without it, and with it fail because of wrong bytes
# at a node, for no other reason.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=kamethod_trusting
run='^TestCorruptTwice$'
dir=$(mktemp -d)
log=$dir/log
trap 'rm -rf "$dir"' EXIT

fail() {
	echo "mutation: $*" >&2
	exit 1
}

# Nobody else may know the tag: a release with it would be worthless.
known='^(golden/chain/verify(_off)?\.go|scripts/mutation\.sh)$'
others=$(grep -rIl --exclude-dir=.git --exclude-dir=.cache "$tag" . | sed 's|^\./||' | grep -vE "$known" || true)
[ -z "$others" ] || fail "the tag $tag is named in: $others"
go build -o "$dir/" ./cmds/admin/golden-serve ./cmds/node/stage1/karecv
for prog in "$dir"/golden-serve "$dir"/karecv; do
	if go version -m "$prog" | grep -q "$tag"; then
		fail "$(basename "$prog") is built with $tag; is it in GOFLAGS?"
	fi
done

export FAULTS_SEED=${FAULTS_SEED-4711}
unset FAULTS_BIN
if ! go test -count=1 -timeout 5m -run "$run" ./images/faults >"$log" 2>&1; then
	cat "$log"
	fail "the tests fail although pieces are compared with their hashes"
fi
if FAULTS_TAGS=$tag go test -count=1 -timeout 5m -run "$run" ./images/faults >"$log" 2>&1; then
	cat "$log"
	fail "the tests pass although pieces are no longer compared with their hashes"
fi
if ! grep -q 'is reported done and has other bytes' "$log"; then
	cat "$log"
	fail "the tests fail, but not because of wrong bytes at a node"
fi
grep -ho 'seed [0-9]*: node .* is reported done and has other bytes' "$log" | sed 's/^/mutation: noticed: /'
