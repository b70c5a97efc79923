#!/bin/bash
# vmtest.sh [CELL]: machines of every kind are cloned, one cell of the matrix
# after the other, two at a time where there are two processors; then what fails,
# a nodes file, partitions as blocks, and fix-up alone on disks of many kinds. Or
# only those cells whose name has CELL in it; or one of these:
#
#	failing, identity, blocks, fixup   the rest of the above
#	manuals                            all of the next lines
#	ownservers                         ISC dhcpd and tftpd-hpa boot the machine
#	methods                            stage 2 by NFS, HTTP and FTP; a clone by HTTP
#	dolly, diskless, saved, sessions   golden-serve's verbs of these names, and clone --image
#	exec                               and exec, logs and release, on clones that are held
#	base                               a stage 2 over a rescue system of somebody else's
#
# Prints how long each took, and why there aren't more cells.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

if [ "$(id -u)" != 0 ]; then
	echo "vmtest.sh: must be root: it makes network namespaces and virtual machines" >&2
	exit 1
fi

scripts/setup.sh
make -s image
cat <<'END'
The matrix {BIOS, UEFI} x {MBR, GPT} x {ext4, xfs, btrfs, ext3+jfs+reiserfs} x
{plain, LVM, RAID 1} has 48 cells. 12 are played, in which any two values of
different kinds come together: a fault that takes three of them at once would be
missed, and one that takes two would not. Besides: a disk with sectors of 4096
bytes, two disks, an encrypted one, and what fails. Two of the 12 have a disk
smaller or larger than golden's.
END

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
case ${1-} in
"") run='^(TestMatrix|TestFailing.*|TestNodesFile|TestBlocks)$' ;;
manuals) run='^(TestOwnServers|TestCloneByHTTP|TestSavedClone|TestDiskless|TestDollyMachines|TestSessionsBootMachines|TestHeldClones|TestCloneOverBase)$' ;;
failing) run='^TestFailing' ;;
identity) run='^TestNodesFile$' ;;
ownservers) run='^TestOwnServers$' ;;
blocks) run='^TestBlocks$' ;;
saved) run='^TestSavedClone$' ;;
sessions) run='^TestSessionsBootMachines$' ;;
exec) run='^TestHeldClones$' ;;
base) run='^TestCloneOverBase$' ;;
diskless) run='^(TestRunInMemory|TestDiskless)$' ;;
dolly) run='^TestDollyMachines$' ;;
fixup) run= ;;
methods) run='^TestCloneByHTTP$' ;;
*) run='^TestMatrix$' ;;
esac
if [ -n "$run" ]; then
	VMTEST=1 SESSIONS_VM=1 CELL=${1-} go test -count=1 -timeout 240m -v -run "$run" ./images 2>&1 | tee "$log" || status=$?
fi
case ${1-} in
manuals | methods)
	VMTEST=1 go test -count=1 -timeout 120m -v -run '^TestMethods$' ./cmds/node/stage1/init 2>&1 | tee -a "$log" || status=$?
	;;
esac
# Tests that nothing else runs: their files have the build tag vmtest. They make
# golden nodes of their own, so each root they need comes over the network once.
case ${1-} in
"" | fixup)
	names=$(grep -l '^//go:build vmtest$' cmds/node/internal/fixup/*_test.go | xargs sed -n 's/^func \(Test[A-Za-z0-9]*\)(.*/\1/p' | paste -sd'|')
	go test -count=1 -timeout 120m -v -tags vmtest -run "^($names)\$" ./cmds/node/internal/fixup 2>&1 | tee -a "$log" || status=$?
	;;
esac
printf '\n== cells, with how long each took\n'
grep -oE 'CELL [a-z0-9-]+: [0-9]+ s$|^    --- (PASS|FAIL|SKIP): Test(Matrix|CloneBoots|ToolsBoot|Methods)/.*|^--- (PASS|FAIL|SKIP): .*' "$log" || true
took=$((SECONDS - started))
echo "== $took s, status $status"
if [ -z "${1-}" ] && [ "$took" -gt 3600 ]; then
	echo "== that is $((took - 3600)) s more than an hour, which is what it should take at most"
fi
exit "$status"
