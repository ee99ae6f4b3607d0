#!/usr/bin/env python3
"""Runs every test that damages files, and prints how many mutations of each kind there were.

  scripts/mutations.py [PRESET]      a build with tests: release (the default), asan, tsan. LECTERN_SOAK: twenty times as many

Exit code 1 where a test failed, or a kind met fewer than a thousand."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINE = re.compile(r"mutations of (.+): (\d+), (\d+) read, (\d+) refused")
LEAST = 1000


def main():
    preset = sys.argv[1] if len(sys.argv) > 1 else "release"
    done = subprocess.run(["ctest", "--preset", preset, "--verbose", "--tests-regex", "[Mm]utat"], cwd=ROOT, capture_output=True, text=True)
    kinds = {match[1]: [int(match[i]) for i in (2, 3, 4)] for match in LINE.finditer(done.stdout)}
    width = max(map(len, kinds), default=4)
    print(f"| {'kind':{width}} | mutations |   read | refused |\n| {'-' * width} | --------: | -----: | ------: |")
    for kind, (count, read, refused) in sorted(kinds.items()):
        print(f"| {kind:{width}} | {count:9,} | {read:6,} | {refused:7,} |")
    summary = re.search(r"\d+% tests passed.*", done.stdout)
    print(f"\n{len(kinds)} kinds, {sum(counts[0] for counts in kinds.values()):,} mutations; {summary[0] if summary else 'no test ran'}")
    few = [kind for kind, counts in kinds.items() if counts[0] < LEAST]
    if done.returncode != 0 or few or not kinds:
        failed = re.findall(r".*\*\*\*(?:Failed|Timeout|Exception).*", done.stdout)
        sys.exit("\n".join(failed + [f"fewer than {LEAST}: {kind}" for kind in few]) or done.stderr)


if __name__ == "__main__":
    main()
