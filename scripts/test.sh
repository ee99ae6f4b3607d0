#!/usr/bin/env bash
# The second README command: installs what tests need, builds, runs every test.
#   scripts/test.sh                    release build; unit, golden, property, differential, fault, fuzz-seed and end-to-end tests
#   scripts/test.sh --all              then 20 kill rounds, TSan, ASan + UBSan
#   scripts/test.sh --all --within 30  then the same, the most telling first, for as long as there is time: what is not done 30 minutes
#                                      after the start is cut, and said to be
# The release build's tests come first and their closing lines last; before these stands what else was run, left out or failed.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() { echo "usage: scripts/test.sh [--all [--within MINUTES]]" >&2; exit 2; }
all=no minutes=
while [ $# -gt 0 ]; do
  case "$1" in
    --all) all=yes; shift ;;
    --within) [[ "${2:-}" =~ ^[0-9]{1,4}$ ]] || usage; minutes=$((10#$2)); shift 2 ;;
    *) usage ;;
  esac
done
[ "$all" = yes ] || [ -z "$minutes" ] || usage
started=$SECONDS

scripts/packages.sh test
python3 scripts/check_layers.py
python3 scripts/check_headers.py
python3 scripts/check_includes.py
python3 scripts/check_threads.py || [ $? = 77 ]   # 77: no clang++ here
scripts/fetch_models.py

# Runs a command for as long as there is time; 124: it was cut, or not begun.
limited() {
  [ -n "$minutes" ] || { "$@"; return; }
  local rc=0 left=$((60 * minutes - (SECONDS - started)))
  [ "$left" -gt 0 ] || return 124
  timeout --signal=KILL "$left" "$@" || rc=$?   # all at once, so that ctest does not see a test end before it ends itself
  [ "$rc" != 137 ] || [ $((SECONDS - started)) -lt $((60 * minutes)) ] || rc=124
  return "$rc"
}

build() {  # preset, targets in one word, then the command in front
  local preset=$1 targets=$2 began=$SECONDS
  shift 2
  "$@" cmake --preset "$preset" -DLECTERN_TESTS=ON >/dev/null || return
  # shellcheck disable=SC2086
  "$@" cmake --build --preset "$preset" --target $targets || return
  python3 scripts/slowest_files.py "build/$preset"
  echo "$preset: built in $((SECONDS - began)) s, $((SECONDS - started)) s since the start"
}

build release all
ctest --preset release --parallel 2 --output-log build/release/tests.log
[ "$all" = yes ] || exit 0

ran=() left_out=() failed=()
finish() {  # name, exit code, log of its tests
  local name=$1 rc=$2 log=$3 passed
  if [ "$rc" = 0 ] && passed=$(grep -o '[0-9]*% tests passed.*' "$log"); then
    ran+=("$name: $passed")
  elif [ "$rc" = 124 ] && ! grep -qsE '\*\*\*(Failed|Timeout|Exception)' "$log"; then
    passed=$(grep -cs ' Passed ' "$log" || true)
    left_out+=("$name: cut $minutes minutes after the start; ${passed:-0} of its tests had passed")
  else
    failed+=("$name: exit code $rc")
  fi
}

# ctest, within the time. Its own --output-log appears when it ends, and it may be cut.
tests() {  # log, then what ctest is told
  local log=$1 rc=0
  shift
  limited ctest "$@" >"$log" 2>&1 || rc=$?
  cat "$log"
  return "$rc"
}

kill_rounds() {
  local log=build/release/kill_rounds.log rc=0
  LECTERN_KILL_ROUNDS=20 tests "$log" --preset release -R '[Kk]ill' || rc=$?
  finish "20 kill rounds" "$rc" "$log"
}

# Some kernels and containers do not let a sanitizer's programs start, or look for leaks.
starts_here() {  # sanitizer
  local folder rc=0
  folder=$(mktemp -d)
  echo 'int main() {}' >"$folder/empty.cc"
  c++ "-fsanitize=$1" -o "$folder/empty" "$folder/empty.cc" || rc=1
  for _ in {1..10}; do [ "$rc" != 0 ] || "$folder/empty" >/dev/null 2>&1 || rc=1; done
  rm -rf "$folder"
  return "$rc"
}

sanitized() {  # name, preset, sanitizer, targets in one word, then what ctest is told
  local name=$1 preset=$2 sanitizer=$3 targets=$4 rc=0
  local log=build/$preset/tests.log
  shift 4
  if ! starts_here "$sanitizer"; then
    left_out+=("$name: an empty program built with -fsanitize=$sanitizer does not run here")
    return
  fi
  rm -f "$log"
  build "$preset" "$targets" limited || rc=$?
  [ "$rc" != 0 ] || tests "$log" --preset "$preset" --parallel 2 "$@" || rc=$?
  finish "$name" "$rc" "$log"
}

kill_rounds
if [ -n "$minutes" ]; then
  # Parsers before all else, then what runs in threads; each stage builds only what it runs.
  # Damaged files are read by one thread.
  fuzz=(data/fuzz/*)
  sanitized "ASan + UBSan, fuzz seeds and model files" asan address "${fuzz[*]/#data\/fuzz\//fuzz_} decoder_test" -R '^(fuzz|decoder)/'
  sanitized "TSan, base and index" tsan thread "base_test index_test" -R '^(base|index)/' -E '[Mm]utat'
  sanitized "ASan + UBSan, index and service" asan address "index_test service_test" -R '^(index|service)/'
  sanitized "TSan, service" tsan thread "service_test" -R '^service/' -E '[Mm]utat'
  left_out+=("all other tests under sanitizers: scripts/test.sh --all runs them")
else
  # Whole models and what the documentation shows are left to the release build: sanitizers slow them 20-fold.
  sanitized "TSan" tsan thread all --label-exclude 'slow'
  sanitized "ASan + UBSan" asan address all --label-exclude 'slow|docs'
fi

echo
for line in "${ran[@]}"; do echo "also run: $line"; done
for line in "${left_out[@]}"; do echo "left out: $line"; done
for line in "${failed[@]}"; do echo "failed: $line"; done
echo "The release build's tests, which were run first:"
sed -n '/% tests passed/,$p' build/release/tests.log
[ ${#failed[@]} = 0 ]
