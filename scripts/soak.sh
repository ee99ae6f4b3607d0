#!/usr/bin/env bash
# The long counts, hours of two cores in all: kills, power cuts, failing disks, searches beside a writer, mutations, memory.
#   scripts/soak.sh             builds, then every step that has no good row of this commit yet: after a stop it goes on where it was
#   scripts/soak.sh STEP...     builds, then these steps: scripts/soak.sh follow memory-512 kill-11 (11 is a seed: any will do)
#   scripts/soak.sh --list      the steps
# A step that ends leaves one JSON line in $SOAK_ROWS (default build/soak.jsonl): commit, processor, what was counted, exit code, seconds;
# its output is in build/soak/STEP.log. Exit code 1 where a step failed. scripts/soak_rows.py runs the steps and makes tables of the rows.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" != --list ] || exec python3 scripts/soak_rows.py list
scripts/packages.sh test
cmake --preset release -DLECTERN_TESTS=ON >/dev/null
cmake --build --preset release
exec python3 scripts/soak_rows.py run "${SOAK_ROWS:-build/soak.jsonl}" "$@"
