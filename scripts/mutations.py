#!/usr/bin/env python3
"""Runs every test that damages files, and prints how many mutations of each kind there were.

  scripts/mutations.py [PRESET]      a build with tests: release (the default), asan, tsan. LECTERN_SOAK: twenty times as many

Exit code 1 where a test failed, or a kind met fewer than a thousand."""
import glob
import json
import multiprocessing.pool
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINE = re.compile(r"mutations of (.+): (\d+), (\d+) read, (\d+) refused")
LEAST = 1000


def environment(preset):
    """What ctest would set: where a sanitizer finds its options."""
    with open(ROOT + "/CMakePresets.json", encoding="utf-8") as file:
        tests = {test["name"]: test for test in json.load(file)["testPresets"]}
    options = tests.get(preset, {}).get("environment", {})
    return {**os.environ, **{name: value.replace("${sourceDir}", ROOT) for name, value in options.items()}}


def main():
    preset = sys.argv[1] if len(sys.argv) > 1 else "release"
    binaries = sorted(path for path in glob.glob(f"{ROOT}/build/{preset}/tests/**/*_test", recursive=True) if os.access(path, os.X_OK))
    if not binaries:
        sys.exit(f"build/{preset} holds no tests")
    env, cores = environment(preset), len(os.sched_getaffinity(0))
    shards = [(binary, shard) for binary in binaries for shard in range(cores)]

    def run(what):
        binary, shard = what
        return subprocess.run([binary, "--gtest_filter=*utat*"], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
                              env={**env, "GTEST_TOTAL_SHARDS": str(cores), "GTEST_SHARD_INDEX": str(shard)})

    with multiprocessing.pool.ThreadPool(cores) as pool:
        done = pool.map(run, shards, chunksize=1)
    kinds = {match[1]: [int(match[i]) for i in (2, 3, 4)] for run in done for match in LINE.finditer(run.stdout)}
    width = max(map(len, kinds), default=4)
    print(f"| {'kind':{width}} | mutations |   read | refused |\n| {'-' * width} | --------: | -----: | ------: |")
    for kind, (count, read, refused) in sorted(kinds.items()):
        print(f"| {kind:{width}} | {count:9,} | {read:6,} | {refused:7,} |")
    passed = sum(int(match[1]) for run in done if (match := re.search(r"\[  PASSED  \] (\d+) test", run.stdout)))
    print(f"\n{len(kinds)} kinds, {sum(counts[0] for counts in kinds.values()):,} mutations; {passed} tests passed")
    wrong = [f"fewer than {LEAST}: {kind}" for kind, counts in kinds.items() if counts[0] < LEAST]
    for (binary, shard), run in zip(shards, done):
        if run.returncode != 0:
            failed = re.findall(r"\[  FAILED  \] .*", run.stdout)
            wrong.append(f"{os.path.basename(binary)}, shard {shard}, exit code {run.returncode}: " + ("\n".join(failed) or (run.stdout + run.stderr)[-2000:]))
    if wrong or not kinds:
        sys.exit("\n".join(wrong) or "no kind was damaged")


if __name__ == "__main__":
    main()
