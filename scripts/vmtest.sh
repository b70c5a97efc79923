#!/bin/bash
# vmtest.sh [CELL]: machines of every kind are cloned, one cell of the matrix
# after the other, two at a time where there are two processors; or only those
# cells whose name has CELL in it. Prints how long each took, and why there
# aren't more.
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
bytes, a smaller one, a larger one, two, an encrypted one, and what fails.
END

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
run='^(TestMatrix|TestFailing.*)$'
[ -z "${1-}" ] || run='^TestMatrix$'
VMTEST=1 CELL=${1-} go test -count=1 -timeout 150m -v -run "$run" ./images 2>&1 | tee "$log" || status=$?
printf '\n== cells, with how long each took\n'
grep -oE 'CELL [a-z0-9-]+: [0-9]+ s$|^    --- (PASS|FAIL): TestMatrix/.*|^--- (PASS|FAIL): .*' "$log" || true
echo "== $((SECONDS - started)) s, status $status"
exit "$status"
