#!/usr/bin/env bash
# The reader's speed beside llama.cpp, in turns, so that both meet the same machine.
#   bench/llama_peer.sh PEERS_PYTHON PEERS_FOLDER MEMBW MODEL.gguf [ROUNDS] [ARGS for both: --threads 2 --prompts 512 --gen 64 --repeats 3 ...]
#   bench/llama_peer.sh ~/peers-venv/bin/python ../shared/peers/cpu ./membw qwen.gguf 2
# Needs build/bench (cmake --preset bench && ninja -C build/bench bench_reader), or BENCH=path to bench_reader.
# A round is: memory bandwidth, llama.cpp without and with flash attention, ours, memory bandwidth. Prints every JSON line
# (with "engine"), then a table: llama.cpp's better setting, ours, the ratio. Compare nothing where the bandwidth lines of a
# round differ by more than 10 %.
set -euo pipefail
python=$1 peers=$2 membw=$3 model=$4 rounds=${5:-2}
shift $(($# < 5 ? $# : 5))
here=$(cd "$(dirname "$0")/.." && pwd)
bench=${BENCH:-$here/build/bench/bench/bench_reader}
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
tag() { while IFS= read -r line; do printf '{"engine": "%s", "round": %s, "line": %s}\n' "$1" "$2" "$line"; done | tee -a "$lines"; }
for round in $(seq "$rounds"); do
  "$membw" 2 1024 5 | tag membw "$round"
  for flash in off on; do
    (cd "$peers" && "$python" llama_speed.py "$model" --flash "$flash" --threads 2 "$@") | tag "llama.cpp flash $flash" "$round"
  done
  "$bench" "$model" --threads 2 "$@" | tag lectern "$round"
  "$membw" 2 1024 5 | tag membw "$round"
done
LINES_FILE=$lines python3 - <<'PY'
import collections, json, os, statistics
rates, bandwidth, memory = collections.defaultdict(list), [], collections.defaultdict(float)
for row in map(json.loads, open(os.environ["LINES_FILE"])):
    engine, line = row["engine"], row["line"]
    if line.get("tool") == "membw":
        bandwidth.append(line["read_GBps"]["median"])
    elif "tokens_per_s" in line:
        rates[line["what"], line["threads"], engine].append(line["tokens_per_s"]["median"])
    elif line.get("what") == "memory":
        memory[engine] = max(memory[engine], line["max_rss_MiB"])
print("membw GB/s:", *bandwidth)
print("max RSS MiB:", dict(memory))
for what, threads in dict.fromkeys(key[:2] for key in rates):
    of = {e: statistics.median(v) for (w, t, e), v in rates.items() if (w, t) == (what, threads)}
    ours = of.pop("lectern", None)
    if of and ours:
        name, best = max(of.items(), key=lambda item: item[1])
        print(f"{what:<12} threads {threads}  llama.cpp {best:8.2f} ({name[10:]})  lectern {ours:8.2f}  {ours / best:5.2f}x")
PY
