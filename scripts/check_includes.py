#!/usr/bin/env python3
"""Each file includes what it uses of the standard library, itself or through our headers: precompiled headers would hide a missing line.

  check_includes.py            exit code 1: a line is missing
"""
import os
import re
import sys

FOLDERS = ("base", "attention", "manifold", "decoder", "index", "service", "tests", "bench")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMES = {
    "algorithm": "all_of any_of clamp copy_n fill find find_if lower_bound max min nth_element partial_sort ranges remove_if reverse sort "
                 "stable_sort unique upper_bound",
    "array": "array", "atomic": "atomic", "bit": "bit_cast countr_zero popcount", "charconv": "from_chars to_chars", "chrono": "chrono",
    "cmath": "abs exp fabs isfinite isnan log lround pow sqrt tanh", "cstdio": "fprintf printf snprintf", "cstdlib": "getenv strtod",
    "cstring": "memcmp memcpy memset", "deque": "deque", "filesystem": "filesystem", "fstream": "ifstream ofstream",
    "functional": "function", "iostream": "cerr cout", "limits": "numeric_limits", "list": "list", "map": "map multimap",
    "memory": "make_shared make_unique shared_ptr unique_ptr", "numeric": "accumulate inner_product iota partial_sum",
    "optional": "optional", "queue": "priority_queue queue", "random": "mt19937", "set": "set", "span": "span",
    "sstream": "istringstream ostringstream stringstream", "string": "string", "string_view": "string_view", "thread": "thread",
    "unordered_map": "unordered_map", "unordered_set": "unordered_set", "utility": "exchange", "variant": "variant", "vector": "vector",
}
HEADER_OF = {name: header for header, names in NAMES.items() for name in names.split()}
seen = {}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def headers_of(path):
    """Standard headers that a file includes, itself or through headers of ours."""
    if path not in seen:
        seen[path] = set()   # a header that includes itself in a circle ends here
        text = read(path)
        found = set(re.findall(r"#include <([a-z_]+)>", text))
        for ours in re.findall(r'#include "([^"]+)"', text):
            if os.path.exists(os.path.join(ROOT, ours)):
                found |= headers_of(ours)
        seen[path] = found
    return seen[path]


def main():
    files, problems = [], []
    for top in FOLDERS:
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            files += [os.path.relpath(os.path.join(folder, name), ROOT) for name in names if name.endswith((".cc", ".h"))]
    for path in sorted(files):
        if "/cuda/" in path:
            continue   # CUDA's own headers bring much along
        code = "\n".join(line.split("//")[0] for line in read(path).splitlines())
        used = {HEADER_OF[name] for name in re.findall(r"std::([a-z_0-9]+)\b", code) if name in HEADER_OF}
        problems += [f"{path}: #include <{header}>" for header in sorted(used - headers_of(path))]
    for problem in problems:
        print(problem)
    print(f"check_includes: {len(files)} files, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
