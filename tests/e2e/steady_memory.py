#!/usr/bin/env python3
"""Memory does not grow from search to search, nor from answer to answer, in one process.

  steady_memory.py PROGRAM SAMPLE_FOLDER [--searches 1000] [--answers 50]

Hybrid searches and answers over the sample's articles, models from $LECTERN_MODELS_DIR or where fetch_models.py puts them. Searches:
the peak of a process that makes a tenth as many, and of one that makes as many more. Answers: what is resident after the sixth, and at most
from the last on. 4 MiB are allowed for what the allocator keeps, and for answers another 4 MiB for a longer prompt's cache.
"""
import argparse
import json
import os
import random
import re
import sys
import tempfile
import time

from program import Broken, Program


def resident(process):
    try:
        with open(f"/proc/{process.pid}/status") as status:
            found = re.search(r"^VmRSS:\s+(\d+) kB", status.read(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) if found else None


def watch(process, lines_done, early, late):
    """KiB held when `early` lines are done, and the most held from `late` lines on."""
    first, last = None, None
    while process.poll() is None:
        done, now = lines_done(), resident(process)
        if now:
            if first is None and done >= early:
                first = now
            if done >= late:
                last = max(last or 0, now)
        time.sleep(0.02)
    if process.returncode != 0:
        raise Broken(f"exit code {process.returncode}")
    if first is None or last is None:
        raise Broken(f"ended before memory was read at {early} and {late} lines")
    return first, last


def lines_of(path):
    def count():
        try:
            with open(path, "rb") as file:
                return sum(1 for _ in file)
        except FileNotFoundError:
            return 0
    return count


def judge(what, first, last, allowed_kib):
    print(f"steady memory: {what}: {first / 1024:.1f} MiB early, {last / 1024:.1f} MiB at the end")
    if last > first + allowed_kib:
        raise Broken(f"{what} took {last - first} KiB more, {allowed_kib} allowed")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("sample")
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--answers", type=int, default=50)
    args = parser.parse_args()
    models = os.environ.get("LECTERN_MODELS_DIR", os.path.expanduser("~/.cache/lectern/models"))
    if not os.path.exists(models + "/all-minilm-l6-v2"):
        print(f"left out: no model at {models} (scripts/fetch_models.py)")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="lectern-steady-") as work:
        lectern = Program(args.program, work + "/data")
        lectern.env["LECTERN_MODELS_DIR"] = models
        lectern.run("ingest", "sample", args.sample + "/articles")
        with open(args.sample + "/questions.jsonl", encoding="utf-8") as file:
            questions = [json.loads(line) for line in file]
        if args.searches:
            rng, words = random.Random(3), sorted({w for q in questions for w in q["question"].split()})
            peaks = []
            for count in (args.searches // 10, args.searches + args.searches // 10):
                with open(work + "/topics.tsv", "w", encoding="utf-8") as out:
                    for i in range(count):
                        out.write(f"{i}\t{' '.join(rng.choice(words) for _ in range(rng.randrange(1, 24)))}\n")
                peaks.append(lectern.run("-q", "search", "sample", "--topics", work + "/topics.tsv", "--k", "10", "--run",
                                         work + "/run").peak_bytes >> 10)
            judge(f"{args.searches} searches", *peaks, 4096)
        if args.answers:
            process = lectern.start("-q", "eval", "answers", "sample", "--questions", args.sample + "/questions.jsonl",
                                    "--limit", str(args.answers), "--out", work + "/answers.jsonl")
            judge(f"{args.answers} answers", *watch(process, lines_of(work + "/answers.jsonl"), 6, args.answers), 8192)


if __name__ == "__main__":
    try:
        main()
    except Broken as problem:
        sys.exit(f"steady memory: {problem}")
