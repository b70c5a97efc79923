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

# The race detector costs a factor of 5 to 10: it runs where goroutines share
# memory. The images' tests start programs and wait for them.
mapfile -t raced < <(go list ./golden/... ./cmds/... ./images/vmlab/... | grep -v '/internal/netboot$')
mapfile -t plain < <(go list ./builder/... ./templates/... ./images/compare/... ./images/demo/... ./images/bench/... 2>/dev/null)

say "unit and namespace tests, with the race detector"
# 40 minutes: some boot machines, and those have limits of 15 minutes each.
go test -race -count=1 -timeout 40m "${raced[@]}"

say "netboot: real clients of DHCP, TFTP and HTTP, floods and crowds"
go test -race -short -count=1 -timeout 20m ./golden/internal/netboot

say "netboot: real firmware"
go test -count=1 -timeout 20m -run 'PXELINUX|ROM|TestEFI' ./golden/internal/netboot

say "unit tests"
go test -count=1 -timeout 40m "${plain[@]}"

say "every fuzz target for some seconds"
scripts/fuzz.sh 3

say "faults: processes, links, packets, bytes and disks, while the real programs work"
go test -count=1 -timeout 20m ./images/faults

say "would the tests see it if pieces were not compared with their hashes?"
scripts/mutation.sh

say "stage 1 in a machine: its lease, the five tries, the reboot"
go test -count=1 -timeout 30m -run TestBoot ./cmds/node/stage1/init

say "whole clones, by BIOS and UEFI, from PXE to their own log-in prompts"
go test -count=1 -timeout 120m -v ./images

say "all tests passed"
