#!/bin/bash
# test.sh            all tests, set-up included
# test.sh PKG [RUN]  the tests of one package, or those that match RUN, with the
#                    race detector unless RACE=0
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

say() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }

if [ "$(id -u)" != 0 ]; then
	echo "test.sh: must be root: the tests make network namespaces, loop devices and virtual machines" >&2
	exit 1
fi

scripts/setup.sh

if [ -n "${1-}" ]; then
	race=-race
	[ "${RACE-1}" != 0 ] || race=
	exec go test $race -count=1 -timeout 90m -v -run "${2-.}" "$1"
fi

say "images"
make -s image

say "reading the code"
scripts/lint.sh

# Two lanes: what keeps the processors busy, here; and beside it what mostly
# waits for packets, for time-outs and for one machine's firmware. What the
# second lane says is printed when the first has ended.
lane2() {
	set -e
	say "netboot: real clients of DHCP, TFTP and HTTP, floods and crowds"
	go test -race -short -count=1 -timeout 30m ./golden/internal/netboot

	say "netboot: real firmware"
	go test -count=1 -timeout 30m -run 'PXELINUX|ROM|TestEFI' ./golden/internal/netboot

	say "stage 1 in a machine: its lease, the tries, the reboot"
	go test -count=1 -timeout 30m ./cmds/node/stage1/init

	say "faults: processes, links, packets, bytes and disks, while the real programs work"
	go test -count=1 -timeout 30m ./images/faults

	say "would the tests see it if pieces were not compared with their hashes?"
	scripts/mutation.sh

	say "the programs in network namespaces"
	go test -count=1 -timeout 40m -v -skip "$machines" ./images

	say "the second lane has passed"
}

# Tests of ./images that keep an emulated machine busy for minutes.
machines='^(TestMatrix|TestClone|TestBesideForeignServers)$'

log=$(mktemp)
set -m # the lane is a process group of its own
lane2 >"$log" 2>&1 &
lane=$!
set +m
trap 'rm -f "$log"' EXIT
trap 'kill -INT -- -$lane 2>/dev/null; wait $lane; exit 130' INT TERM

# The race detector costs a factor of 5 to 10: it runs where goroutines share
# memory. Who makes images, or starts programs and waits for them, needs none.
mapfile -t raced < <(go list ./golden/... ./cmds/... ./images/vmlab/... | grep -Ev "/(internal/netboot|admin/mkimage)$")
mapfile -t plain < <(go list ./cmds/admin/mkimage ./builder/... ./templates/... ./images/compare/... ./images/demo/... ./images/bench/... 2>/dev/null)

lane1() {
	set -e
	say "unit and namespace tests, with the race detector"
	# Some boot machines, and those have limits of 15 minutes each.
	go test -race -count=1 -timeout 45m "${raced[@]}"

	say "unit tests"
	go test -count=1 -timeout 40m "${plain[@]}"

	say "every fuzz target for a second: the seeds, and a look beyond"
	scripts/fuzz.sh 1

	say "whole clones, by BIOS and UEFI, from PXE to their own log-in prompts"
	go test -count=1 -timeout 120m -v -run "$machines" ./images
}

# Not "lane1 || ...": that would make set -e do nothing in it.
set +e
(lane1)
status=$?
wait $lane
second=$?
cat "$log"
if [ $status != 0 ] || [ $second != 0 ]; then
	say "failed: first lane $status, second lane $second"
	exit 1
fi
say "all tests passed"
