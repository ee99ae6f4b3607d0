#!/usr/bin/env bash
# BM25 speed beside tantivy, in turns, so that both meet the same machine.
#   bench/bm25_peer.sh PEERS_PYTHON PEERS_FOLDER DATA_FOLDER [ROUNDS]
#   bench/bm25_peer.sh ~/peers-venv/bin/python ../shared/peers/cpu ../shared/data 3
# Needs build/bench (cmake --preset bench && ninja -C build/bench bench_bm25), or BENCH=path to bench_bm25.
# Prints a line a set and round: queries/s, top 10 and top 1000, of tantivy and of ours, and the ratios.
set -euo pipefail
python=$1 peers=$2 data=$3 rounds=${4:-3}
here=$(cd "$(dirname "$0")/.." && pwd)
bench=${BENCH:-$here/build/bench/bench/bench_bm25}
for round in $(seq "$rounds"); do
  for set in scifact:test nfcorpus:test cranfield:test nq:dev msmarco-dl:dl19; do
    name=${set%:*} split=${set#*:}
    ours=$("$bench" "$data/$name" --split "$split" --k 10 1000 --repeats 5)
    theirs=$(cd "$peers" && "$python" bm25_peer.py "$data/$name" --split "$split" --peers tantivy --repeats 3)
    OURS=$ours THEIRS=$theirs ROUND=$round python3 - <<'PY'
import json, os
ours, theirs = json.loads(os.environ["OURS"]), json.loads(os.environ["THEIRS"])
row = [f"round {os.environ['ROUND']}  {ours['set']:<11}"]
for k in ("top10", "top1000"):
    a, b = theirs["qps_" + k]["median"], ours["qps_" + k]["median"]
    row.append(f"{k}: tantivy {a:8.0f}  lectern {b:8.0f}  {b / a:5.1f}x")
row.append(f"index s: {theirs['index_s']:.2f} {ours['index_s']:.2f}  MiB: {theirs['index_MiB']:.1f} {ours['index_MiB']:.1f}  others {theirs['qps_top10']['others']}")
print("  ".join(row), flush=True)
PY
  done
done
