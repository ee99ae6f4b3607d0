#!/usr/bin/env bash
# The second README command: installs what tests need, builds, runs every test.
#   scripts/test.sh          release build; unit, golden, property, differential, fault, fuzz-seed and end-to-end tests
#   scripts/test.sh --all    and ASan + UBSan, TSan, 20 kill rounds
set -euo pipefail
cd "$(dirname "$0")/.."
all=no
case "${1:-}" in
  "") ;;
  --all) all=yes ;;
  *) echo "usage: scripts/test.sh [--all]" >&2; exit 2 ;;
esac
started=$SECONDS
scripts/packages.sh test

python3 scripts/check_layers.py
python3 scripts/check_headers.py

build_and_test() {  # preset, then what ctest is told
  local preset=$1 began=$SECONDS
  shift
  cmake --preset "$preset" -DLECTERN_TESTS=ON >/dev/null
  cmake --build --preset "$preset"
  python3 scripts/slowest_files.py "build/$preset"
  echo "$preset: built in $((SECONDS - began)) s, $((SECONDS - started)) s since the start"
  ctest --preset "$preset" --parallel 2 "$@"
}

scripts/fetch_models.py
if [ "$all" = yes ]; then
  # Whole models and what the documentation shows are left to the release build: sanitizers slow them 20-fold.
  build_and_test asan --label-exclude 'slow|docs'
  build_and_test tsan --label-exclude 'slow'
  export LECTERN_KILL_ROUNDS=20
fi
build_and_test release
