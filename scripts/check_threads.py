#!/usr/bin/env python3
"""Every mutex of the library is an absl::Mutex, and Clang finds what it guards (ABSL_GUARDED_BY) used without it.

  check_threads.py            exit code 1: a problem; 77: there is no clang++, so only the kind of mutex was checked
"""
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WITHOUT_ABSEIL = ("attention/cuda/kernels.cc",)   # in a library that needs CUDA's runtime and nothing else
FOLDERS = ("base", "attention", "manifold", "decoder", "index", "service")


def main():
    problems, annotated = [], set()
    for top in FOLDERS:
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if not name.endswith((".h", ".cc")):
                    continue
                path = os.path.relpath(os.path.join(folder, name), ROOT)
                text = open(os.path.join(ROOT, path), encoding="utf-8").read()
                if path not in WITHOUT_ABSEIL and re.search(r"std::(mutex|shared_mutex|condition_variable)\b", text):
                    problems.append(f"{path}: a std::mutex has no annotations; use absl::Mutex")
                if "ABSL_GUARDED_BY" in text:
                    annotated.add(re.sub(r"\.h$", ".cc", path))
    compiler = shutil.which("clang++") or shutil.which("clang++-14")
    for path in sorted(annotated) if compiler else []:
        done = subprocess.run([compiler, "-std=c++20", "-I.", "-fsyntax-only", "-Wno-everything", "-Wthread-safety", path],
                              cwd=ROOT, capture_output=True, text=True)
        problems += [line for line in done.stderr.splitlines() if " warning: " in line or " error: " in line]
    for problem in problems:
        print(problem)
    checked = f"{len(annotated)} annotated files" if compiler else "no clang++: annotations left out"
    print(f"check_threads: {checked}, {len(problems)} problems")
    sys.exit(1 if problems else 0 if compiler else 77)


if __name__ == "__main__":
    main()
