#!/usr/bin/env bash
# BM25 speed and quality beside tantivy (and bm25s), in turns, so that both meet the same machine.
#   bench/bm25_peer.sh PEERS_PYTHON PEERS_FOLDER DATA_FOLDER [ROUNDS]
#   RESULTS=bench/results/bm25.jsonl bench/bm25_peer.sh ~/peers-venv/bin/python ../shared/peers/cpu ../shared/data 3
# Needs bench_bm25 (cmake --preset bench && ninja -C build/bench bench_bm25), or BENCH=path to it. SETS="nq:dev" and
# PEERS="tantivy bm25s-stem" choose others than all five sets and tantivy. MEMBW=path to peers' membw brackets each round.
# Prints a line a set and round: queries/s, top 10 and top 1000, of tantivy and of ours, and the ratios; RESULTS gets both
# programs' own JSON lines.
set -euo pipefail
python=$1 peers=$2 data=$3 rounds=${4:-3}
here=$(cd "$(dirname "$0")/.." && pwd)
bench=${BENCH:-$here/build/bench/bench/bench_bm25}
results=${RESULTS:-/dev/null}
membw() { if [ -n "${MEMBW:-}" ]; then echo "{\"membw\": \"$1\", \"lines\": $("$MEMBW" 1 | python3 -c 'import json,sys; print(json.dumps(sys.stdin.read().split("\n")))')}" | tee -a "$results"; fi; }
for round in $(seq "$rounds"); do
  membw before
  for set in ${SETS:-scifact:test nfcorpus:test cranfield:test nq:dev msmarco-dl:dl19}; do
    name=${set%:*} split=${set#*:}
    ours=$("$bench" "$data/$name" --split "$split" --k 10 1000 --repeats 5)
    theirs=$(cd "$peers" && "$python" bm25_peer.py "$data/$name" --split "$split" --peers ${PEERS:-tantivy} --repeats 3)
    printf '%s\n%s\n' "$ours" "$theirs" >> "$results"
    OURS=$ours THEIRS=$theirs ROUND=$round python3 - <<'PY'
import json, os
ours = json.loads(os.environ["OURS"])
for line in os.environ["THEIRS"].splitlines():
    theirs = json.loads(line)
    row = [f"round {os.environ['ROUND']}  {ours['set']:<11} {theirs['peer']:<10}"]
    for k in ("top10", "top1000"):
        a, b = theirs["qps_" + k]["median"], ours["qps_" + k]["median"]
        row.append(f"{k}: {a:8.0f}  lectern {b:8.0f}  {b / a:5.1f}x")
    row.append(f"first pass {ours.get('first_pass_qps_top10', 0):8.0f}  index s: {theirs['index_s']:.2f} {ours['index_s']:.2f}  others {theirs['qps_top10']['others']}")
    print("  ".join(row), flush=True)
PY
  done
  membw after
done
