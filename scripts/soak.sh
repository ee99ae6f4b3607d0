#!/usr/bin/env bash
# The long counts, about an hour and a half: 200 kill rounds, ten minutes of searches beside a writer, every single step of the
# power-cut and failing-disk tests, twenty times the mutations, memory at three budgets, and over 1,000 searches and 50
# answers.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh test
cmake --preset release -DLECTERN_TESTS=ON >/dev/null
cmake --build --preset release
export LECTERN_KILL_ROUNDS=200 LECTERN_SOAK_SECONDS=600 LECTERN_FOLLOW_SECONDS=600 LECTERN_SOAK=1 LECTERN_MUTATIONS=240
scripts/mutations.py release
ctest --preset release --verbose --tests-regex 'Kill|PowerCut|MissingSync|FailingStep|FullDisk|Follower|e2e/(search_beside|full_disk|bad_input|stop)'
# Four collections: a round lists every document of the rounds before.
for seed in 1 2 3 4; do
  tests/e2e/kill_ingest.py --documents 500 build/release/service/lectern 50 "$seed"
done
for mib in 64 256 512; do
  tests/e2e/memory.py build/release/service/lectern --mib "$mib" --times 4
done
tests/e2e/steady_memory.py build/release/service/lectern data/sample
