#!/bin/bash
# soak.sh [OPTIONS of images/faults/soak]: random combinations of faults, 200
# of them, with printed seeds. It may run for an hour and more.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "soak.sh: must be root: it makes network namespaces, mounts and loop devices" >&2
	exit 2
fi
bin=$(mktemp)
trap 'rm -f "$bin"' EXIT
go build -o "$bin" ./images/faults/soak
"$bin" "$@"
