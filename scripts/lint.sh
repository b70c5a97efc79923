#!/bin/bash
# Everything that reads the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0

step() {
	if ! "${@:2}"; then
		echo "lint: $1: failed" >&2
		failed=1
	fi
}

formatted() {
	local files
	files=$(find . -name '*.go' -not -path './.cache/*' -not -path './images/.cache/*' -print0 | xargs -0 gofmt -s -l)
	[ -z "$files" ] || { echo "$files"; return 1; }
}

step "gofmt -s" formatted
step "go vet" go vet ./...
step "go vet, build tag vmtest" go vet -tags vmtest ./cmds/node/internal/fixup
step staticcheck go tool staticcheck ./...
step "staticcheck, build tag vmtest" go tool staticcheck -tags vmtest ./cmds/node/internal/fixup
step "who imports whom" scripts/check-imports.sh
step "go mod tidy" go mod tidy -diff
exit "$failed"
