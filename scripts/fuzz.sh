#!/bin/bash
# fuzz.sh TIME [PATTERN]: every fuzz target of the repository for so long each
# (3, 90s, 10m, 1h), or those whose "package FuzzName" matches an extended
# regular expression. What a target fails on is kept by go test under testdata/fuzz/
# of its package, and is part of every later test once it is in git.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! [[ ${1-} =~ ^([1-9][0-9]{0,5})([smh]?)$ ]]; then
	echo "usage: fuzz.sh TIME [PATTERN]; TIME is seconds, or such as 90s, 10m, 1h" >&2
	exit 2
fi
declare -A unit=([s]=1 [m]=60 [h]=3600)
seconds=$((BASH_REMATCH[1] * ${unit[${BASH_REMATCH[2]:-s}]}))
started=$SECONDS
count=0
failed=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# ended: go test says no more than that the time was up, and has written no
# input. Until Go 1.27 its workers' end at that moment may be taken for a failure
# (go.dev/issue/75804).
ended() {
	grep -q '^    context deadline exceeded$' "$log" && ! grep -Eq 'Failing input|panic|_test\.go:' "$log"
}

# A minute is for a slow machine to build and to run the seeds; go test ends
# by itself when the time for fuzzing is over.
while IFS=: read -r file name; do
	pkg=./$(dirname "$file")
	[[ "$pkg $name" =~ ${2-.} ]] || continue
	count=$((count + 1))
	if ! go test -run '^$' -fuzz "^$name\$" -fuzztime "${seconds}s" -fuzzminimizetime 10x -timeout $((seconds + 60))s "$pkg" >"$log" 2>&1 && ! ended; then
		failed+=("$pkg $name")
		echo "fuzz: $pkg $name: failed"
		cat "$log"
		continue
	fi
	printf 'fuzz: %-40s %-22s %s\n' "$pkg" "$name" "$(grep -o 'execs: [0-9]*' "$log" | tail -1)"
done < <(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' builder cmds golden images templates |
	sed 's/:func /:/' | sort)

if [ "$count" -eq 0 ]; then
	echo "fuzz: no target matches ${2-.}" >&2
	exit 2
fi
echo "fuzz: $count targets, $((SECONDS - started)) s, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
