#!/usr/bin/env python3
"""Checks that includes point down the layers and never sideways, and that private folders stay private.

Layers, lowest first (ARCHITECTURE.md has the picture):
  0 base    1 base/nn, decoder/tokenizer, decoder/model_file    2 attention, manifold    3 decoder, index, nci
  4 service    5 tests, bench (may include anything)
"""
import os
import re
import subprocess
import sys

BOXES = {  # box -> (layer, path prefixes, longest match wins)
    "base": 0, "base/nn": 1, "decoder/tokenizer": 1, "decoder/model_file": 1,
    "attention": 2, "manifold": 2, "decoder": 3, "index": 3, "nci": 3, "service": 4, "tests": 5, "bench": 5,
}
# Foreign headers that only one place may know.
ONLY_IN = {
    "nlohmann/": ("base/json",), "faiss/": ("index/dense_index", "index/hnsw", "bench/"), "rocksdb/": ("index/document_store", "index/rocksdb", "tests/"),
    "boost/beast": ("service/http/",), "torch/": ("nci/train/", "decoder/train/"), "CLI/": ("service/cli/", "service/main"),
    "gtest/": ("tests/",), "gmock/": ("tests/",), "benchmark/": ("bench/",),
}
PRIVATE = ("/cpu/", "/cuda/", "/train/", "/http/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def box_of(path):
    best = None
    for box in BOXES:
        if path.startswith(box + "/") and (best is None or len(box) > len(best)):
            best = box
    return best


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cc", "*.cu", "*.cuh"], cwd=root,
                           capture_output=True, text=True, check=True).stdout.split()
    problems = []
    for path in files:
        own = box_of(path)
        full = os.path.join(root, path)
        if not os.path.exists(full):
            continue
        if own is None:
            problems.append(f"{path}: in no box of the layer picture")
            continue
        with open(full, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                target = match.group(2)
                where = f"{path}:{number}"
                for prefix, allowed in ONLY_IN.items():
                    if target.startswith(prefix) and not path.startswith(allowed):
                        problems.append(f"{where}: {target} belongs in {', '.join(allowed)} only")
                other = box_of(target)
                if other is None or match.group(1) == "<":
                    continue
                if BOXES[own] < 5 and other != own and BOXES[other] >= BOXES[own]:
                    problems.append(f"{where}: {own} (layer {BOXES[own]}) includes {target} of {other} (layer {BOXES[other]})")
                if BOXES[own] < 5 and other != own and any(part in "/" + target for part in PRIVATE):
                    problems.append(f"{where}: {target} is private to {other}")
    for problem in problems:
        print(problem)
    print(f"check_layers: {len(files)} files, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
