#!/usr/bin/env python3
"""The files of a Ninja build that took longest to compile, and what all of it took.

  scripts/slowest_files.py build/release [COUNT]

Wall time of each step as Ninja noted it; on a busy machine that is more than the work. A file past 20 s on two quiet cores
is split (CONTRIBUTING)."""
import sys

folder, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10
seconds = {}
with open(folder + "/.ninja_log", encoding="utf-8") as log:
    for line in log:
        parts = line.rstrip("\n").split("\t")
        if len(parts) == 5:
            seconds[parts[3]] = (int(parts[1]) - int(parts[0])) / 1000
objects = sorted(((s, name) for name, s in seconds.items() if name.endswith((".o", ".gch"))), reverse=True)
print(f"{folder}: {len(objects)} files compiled in {sum(s for s, _ in objects):.0f} s of steps; the slowest:")
for s, name in objects[:count]:
    print(f"  {s:6.1f} s  {name.replace('CMakeFiles/', '')}")
