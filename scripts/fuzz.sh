#!/bin/bash
# fuzz.sh TIME [PATTERN]: every fuzz target of the repository for so long each
# (3, 90s, 10m, 1h), or those whose "package FuzzName" matches an extended
# regular expression. Each package is built once, and as many packages at a time
# are fuzzed as there are processors. What a target fails on is kept under
# testdata/fuzz/ of its package, and is part of every later test once it is in git.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! [[ ${1-} =~ ^([1-9][0-9]{0,5})([smh]?)$ ]]; then
	echo "usage: fuzz.sh TIME [PATTERN]; TIME is seconds, or such as 90s, 10m, 1h" >&2
	exit 2
fi
declare -A unit=([s]=1 [m]=60 [h]=3600)
seconds=$((BASH_REMATCH[1] * ${unit[${BASH_REMATCH[2]:-s}]}))
started=$SECONDS
dir=$(mktemp -d)
cache=$(go env GOCACHE)/fuzz
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

# ended LOG: the program says no more than that the time was up, and has written
# no input. Until Go 1.27 its workers' end at that moment may be taken for a
# failure (go.dev/issue/75804).
ended() {
	grep -q '^    context deadline exceeded$' "$1" && ! grep -Eq 'Failing input|panic|_test\.go:' "$1"
}

# package PKG NAME...: a minute besides is for a slow machine to run the seeds.
package() {
	local pkg=$1 name log bin
	bin=$dir/$(tr / - <<<"$pkg").test
	shift
	if ! go test -c -fuzz . -o "$bin" "$pkg" >"$bin.log" 2>&1; then
		cat "$bin.log"
		echo "fuzz: $pkg: does not build" | tee -a "$dir/failed"
		return
	fi
	for name; do
		log=$bin.$name.log
		if (cd "$pkg" && "$bin" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "${seconds}s" -test.fuzzminimizetime 10x \
			-test.parallel 1 -test.fuzzcachedir "$cache/$pkg" -test.timeout $((seconds + 60))s) >"$log" 2>&1 || ended "$log"; then
			printf 'fuzz: %-40s %-22s %s\n' "$pkg" "$name" "$(grep -o 'execs: [0-9]*' "$log" | tail -1)"
			continue
		fi
		cat "$log"
		echo "fuzz: $pkg $name: failed" | tee -a "$dir/failed"
	done
	rm -f "$bin"
}

targets=$(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' builder cmds golden images templates |
	sed -E 's,^(.*)/[^/]*:func (.*)$,./\1 \2,' | sort | grep -E "${2-.}" || true)
if [ -z "$targets" ]; then
	echo "fuzz: no target matches ${2-.}" >&2
	exit 2
fi
touch "$dir/failed"
at_once=$(nproc)
while read -r pkg; do
	while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do
		wait -n
	done
	mapfile -t names < <(awk -v pkg="$pkg" '$1 == pkg { print $2 }' <<<"$targets")
	package "$pkg" "${names[@]}" &
done < <(cut -d' ' -f1 <<<"$targets" | uniq)
wait
count=$(wc -l <<<"$targets")
failed=$(wc -l <"$dir/failed")
echo "fuzz: $count targets, $((SECONDS - started)) s, $failed failed"
cat "$dir/failed"
[ "$failed" -eq 0 ]
