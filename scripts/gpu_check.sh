#!/bin/bash
# Checks and times the CUDA kernels on a machine with a device. Each step takes 8 minutes at most, appends JSON lines to OUT and is
# skipped when its .done mark is there; the timed ones skip what OUT has of this commit and device, so that a run that was cut off goes on.
#
#   scripts/gpu_check.sh STEP... [--option value ...]
#   STEP: roofs test sanitize bytes dense sparse selector manifold_test racecheck_case manifold report
#   Options go to each attention_bench.py of the steps, behind those below: `scripts/gpu_check.sh dense --lens 8192 --pages random`.
#
# BUILD: where attention_cuda_test, liblectern_attention_c.so, manifold_cuda_test, racecheck_case and bench_manifold_cuda (LECTERN_BENCH) are (build/cuda); PEERS: the peers' scripts (../shared/peers/gpu);
# OUT: results (bench/results); REPEATS: replays a median is of (50). `scripts/gpu_check.sh pack DIR` copies what a machine without this build needs into DIR.
set -u
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/cuda} PEERS=${PEERS:-../shared/peers/gpu} OUT=${OUT:-bench/results}
TEST=$(find "$BUILD" -name attention_cuda_test -type f | head -1)
LIB=$(find "$BUILD" -name liblectern_attention_c.so | head -1)
MANIFOLD_TEST=$(find "$BUILD" -name manifold_cuda_test -type f | head -1)
RACECHECK_CASE=$(find "$BUILD" -name racecheck_case -type f | head -1)
MANIFOLD_BENCH=$(find "$BUILD" -name bench_manifold_cuda -type f | head -1)
COMMIT=${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null)}
DEVICE=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
mkdir -p "$OUT"

bench() {  # file of its rows, step of attention_bench.py, arguments. 3: the step's time was over before it was through
  local out=$OUT/gpu_$1.jsonl step=$2 left=$((DEADLINE - SECONDS))
  shift 2
  timeout $((left > 40 ? left : 40)) python3 bench/gpu/attention_bench.py "$step" --lib "$LIB" --peers-dir "$PEERS" --commit "$COMMIT" --out "$out" \
    --limit-s $((left > 60 ? left - 40 : 20)) --repeats "${REPEATS:-50}" "$@" "${OPTIONS[@]}"
}
shard_of_tests() {  # which of five
  GTEST_TOTAL_SHARDS=5 GTEST_SHARD_INDEX=$1 timeout 460 "$TEST" --gtest_brief=1 --gtest_output="json:$OUT/gpu_test_$1.json" >"$OUT/gpu_test_$1.txt" 2>&1 ||
    { cat "$OUT/gpu_test_$1.txt"; return 1; }
}
sanitize() {  # tool, name of its log, test program, filter; SHARD: which of five
  local log="$OUT/gpu_$2_$1${SHARD:+_$SHARD}.txt" began=$SECONDS code
  timeout "${LIMIT:-160}" env ${SHARD:+GTEST_TOTAL_SHARDS=5 GTEST_SHARD_INDEX="$SHARD"} \
    compute-sanitizer --tool "$1" --error-exitcode 9 "$3" --gtest_filter="$4" >"$log" 2>&1
  code=$?
  sanitizer_line "\"sanitize\", \"tool\": \"$1\", \"filter\": \"$4\"${SHARD:+, \"shard\": \"$SHARD of 5\"}, \"tests_passed\": $(grep -ac '^\[       OK' "$log"), \"seconds\": $((SECONDS - began))" $code "$log"
  return $code
}
together() {  # commands, side by side: a tool keeps one core busy, and the device hardly at all
  local pids=() failed=0 command
  for command; do eval "$command" & pids+=($!); done
  for command in "${pids[@]}"; do wait "$command" || failed=1; done
  return $failed
}
sanitizer_line() {  # kind and what was run, exit code, log
  echo "{\"kind\": $1, \"device\": \"$DEVICE\", \"commit\": \"$COMMIT\", \"exit\": $2, \"summary\": \"$(grep -a 'SUMMARY' "$3" | tail -1)\"}" | tee -a "$OUT/gpu_sanitize.jsonl"
}
run() {
  # Kernels outside the closed list are compiled by NVRTC, the toolkit's or that of an installed torch.
  local nvrtc=$(find -L /usr/local/cuda/lib64 $(python3 -c 'import site; print(*site.getsitepackages())') -name 'libnvrtc.so.1?' 2>/dev/null | head -1)
  export LD_LIBRARY_PATH=$(dirname "${LIB:-$MANIFOLD_TEST}")/lib:${nvrtc:+$(dirname "$nvrtc"):}${LD_LIBRARY_PATH:-}
  local failed=0
  case $1 in
    roofs) bench roofs roofs ;;
    test)
      together "shard_of_tests "{0..4} || return
      python3 - "$OUT" "$COMMIT" "$DEVICE" <<'END' ;;
import json, sys
out, commit, device = sys.argv[1:]
tests = []
for i in range(5):
    for suite in json.load(open(f"{out}/gpu_test_{i}.json"))["testsuites"]:
        for t in suite["testsuite"]:
            tests.append({k: v for k, v in t.items() if k not in ("classname", "file", "line", "status", "timestamp")} | {"suite": suite["name"]})
failed = sum("failures" in t for t in tests)
result = {"device": device, "commit": commit, "tests": len(tests), "failed": failed, "results": sorted(tests, key=lambda t: (t["suite"], t["name"]))}
json.dump(result, open(f"{out}/gpu_test.json", "w"), indent=1)
print(f"{len(tests)} tests, {failed} failed")
END
    sanitize)  # every test under memcheck and synccheck, with a fiftieth of its repeats; under racecheck every kind of kernel, alone and in a chain
      local commands=() tool shard filter
      for tool in memcheck synccheck; do
        for shard in 0 1 2 3 4; do commands+=("SHARD=$shard sanitize $tool attention '$TEST' '*'"); done
      done
      for filter in 'CudaDecode.SoftCap*:CudaDecode.FewRows*' 'CudaLate.SelectAndThen*' 'CudaSelect.ManyRows:CudaSelect.Published*' 'CudaSelect.Ties*' \
        'CudaAppend.TheC*:CApi.What*:WorkedCuda.*' 'Selectors/CudaChain.OneLaunch*'; do
        commands+=("sanitize racecheck attention_${#commands[@]} '$TEST' '$filter'")
      done
      LECTERN_CUDA_SHARE=50 LIMIT=460 together "${commands[@]}" ;;
    bytes) timeout 300 python3 bench/gpu/bytes_check.py --lib "$LIB" --commit "$COMMIT" --out "$OUT/gpu_bytes.jsonl" ;;
    dense)  # the grid, orders of pages and fixed chunks, fp16
      bench dense dense || failed=$?
      bench dense layout --shapes 32/8d128,12/2d128 --batches 1,16 --lens 8192,32768,131072 || failed=$?
      bench dense dense --dtype float16 --shapes 32/8d128,14/2d64 --batches 1,16 --lens 8192,32768 || failed=$? ;;
    sparse)
      bench sparse sparse --shapes 64/8d128 --batches 1,4,8,16 --lens 8192,16384,32768,65536,131072 || failed=$?
      bench sparse sparse --dtype float16 --lists 64:0.9 --shapes 64/8d128 --batches 1,16 --lens 8192,32768,131072 || failed=$?
      bench sparse sparse --pages random --lists 64:0.9 --shapes 64/8d128 --batches 1,16 --lens 32768 || failed=$? ;;
    selector)  # alone, and with append and attention
      bench selector selector --shapes 64/8d128 --batches 1,16 --lens 8192,32768,65536,131072 || failed=$?
      bench selector layer --shapes 64/8d128 --batches 1,16 --lens 8192,32768,65536,131072 || failed=$?
      bench selector layer --pages random --shapes 64/8d128 --batches 1,16 --lens 32768 || failed=$? ;;
    manifold_test)
      timeout 200 "$MANIFOLD_TEST" --gtest_brief=1 --gtest_output="json:$OUT/gpu_manifold_test.json" || return
      together "sanitize "{memcheck,synccheck,racecheck}" manifold '$MANIFOLD_TEST' 'CudaNeighbours.Queries*:CudaFit.Ragged*'" ;;
    racecheck_case)  # `early` is a race and must be reported
      for name in copy-lane0 copy-all stores-lane0 stores-all copy-lane0-later copy-all-later early; do
        timeout 60 compute-sanitizer --tool racecheck --error-exitcode 9 "$RACECHECK_CASE" $name >"$OUT/gpu_racecheck_$name.txt" 2>&1
        sanitizer_line "\"racecheck_case\", \"case\": \"$name\"" $? "$OUT/gpu_racecheck_$name.txt"
      done ;;
    manifold)
      for data in surface planes; do
        timeout 280 "$MANIFOLD_BENCH" --data $data --commit "$COMMIT" | tee -a "$OUT/gpu_manifold.jsonl" || return
      done ;;
    report) python3 bench/gpu/report.py "$OUT"/gpu_*.jsonl ;;
    *) echo "unknown step $1" >&2; return 2 ;;
  esac || return
  return $failed
}

if [ "${1:-}" = pack ]; then
  mkdir -p "$2/lib" && cp "$TEST" "$LIB" "$MANIFOLD_TEST" "$RACECHECK_CASE" "$MANIFOLD_BENCH" "$2/" && cp -r "$PEERS" "$2/peers"
  ldd "$TEST" "$MANIFOLD_TEST" "$MANIFOLD_BENCH" | awk '/=> \// {print $3}' | grep -v -E '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s)\.so' | sort -u | xargs -I{} cp {} "$2/lib/"
  exit
fi
STEPS=() OPTIONS=()
while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do STEPS+=("$1"); shift; done
OPTIONS=("$@")
for step in "${STEPS[@]}"; do
  DEADLINE=$((SECONDS + 470))
  [ "$step" != report ] && [ -e "$OUT/.gpu_$step.done" ] && { echo "$step: done before"; continue; }
  run "$step" || { echo "$step: failed with $?"; exit 1; }
  case $step in report | roofs | dense | sparse | selector) continue ;; esac
  touch "$OUT/.gpu_$step.done"
done
