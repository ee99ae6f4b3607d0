#!/usr/bin/env python3
"""Checks each header for its five points (example, Shapes, Threads, Errors, Cost) and #pragma once, each source for what
does not belong: tabs, CRLF, conflict marks, printf or std::cout outside service/, bench/ and tests/, TODO without an issue."""
import os
import re
import subprocess
import sys

POINTS = ("Shapes:", "Threads:", "Errors:", "Cost:")
MAX_LINES = 800


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cc", "*.cu", "*.cuh"], cwd=root,
                           capture_output=True, text=True, check=True).stdout.split()
    problems = []
    for path in files:
        full = os.path.join(root, path)
        if not os.path.exists(full):
            continue
        with open(full, encoding="utf-8", newline="") as f:
            text = f.read()
        lines = text.split("\n")
        public = path.endswith(".h") and not any(p in path for p in ("/cpu/", "/cuda/", "/train/", "/http/", "-inl.h"))
        head = "\n".join(lines[:60])
        # A file that each CPU target includes into a namespace of its own is meant to be read more than once.
        if path.endswith(".h") and not path.endswith("-inl.h") and "#pragma once" not in text:
            problems.append(f"{path}: no #pragma once")
        if public:
            if not lines[0].startswith(f"// {path}:"):
                problems.append(f"{path}: the first line must be '// {path}: what it is'")
            problems += [f"{path}: its head lacks '{point}'" for point in POINTS if point not in head]
        if len(lines) > MAX_LINES and "long because" not in head.lower():
            problems.append(f"{path}: {len(lines)} lines, past {MAX_LINES}; split, or say 'long because ...' on top")
        quiet = not path.startswith(("service/", "bench/", "tests/")) and path != "base/check.h"
        for number, line in enumerate(lines, 1):
            if "\t" in line and "R\"" not in line:
                problems.append(f"{path}:{number}: a tab")
            if line.endswith("\r"):
                problems.append(f"{path}:{number}: CRLF")
            if re.match(r"^(<{7}|>{7}|={7}$)", line):
                problems.append(f"{path}:{number}: a conflict mark")
            if quiet and re.search(r"\bstd::cout\b|\bstd::cerr\b|(?<![a-z_n])f?printf\(", line):
                problems.append(f"{path}:{number}: prints outside service/ and bench/")
            if re.search(r"\b(TODO|FIXME)\b", line):
                problems.append(f"{path}:{number}: an open end; file an issue instead")
    for problem in problems:
        print(problem)
    print(f"check_headers: {len(files)} files, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
