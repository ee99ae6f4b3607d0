#!/usr/bin/env bash
# The long counts: 200 kill rounds, ten minutes of searching beside a writer, more fuzz mutations. About an hour.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh test
cmake --preset release -DLECTERN_TESTS=ON >/dev/null
cmake --build --preset release
export LECTERN_KILL_ROUNDS=200 LECTERN_SOAK_SECONDS=600 LECTERN_MUTATIONS=20000
ctest --preset release --tests-regex 'Crash|Kill|Soak|Mutation|Dropping|Follower|kill_ingest'
