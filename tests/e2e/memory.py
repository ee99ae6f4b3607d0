#!/usr/bin/env python3
"""Memory: ingest and index building stay under --memory, searching does not grow.

  memory.py PROGRAM [--mib 64] [--times 3] [--vectors]

The corpus is --times as large as the budget. Peak resident memory (wait4) may pass --memory by a tenth. --vectors makes
them with the encoder of the models folder, whose weights lie outside the budget and are taken off (a run over one document).
"""
import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile

from program import Broken, Program, WORDS


def write_corpus(path, total_bytes):
    """Documents of 2 to 400 words out of 200,000: postings and dictionary grow as a real text's do. Each is a stretch of one long text, for
    drawing every word anew would take longer than indexing it."""
    rng, written, i = random.Random(1), 0, 0
    text = [rng.choice(WORDS) if rng.random() < 0.6 else f"w{int(200000 * rng.random() ** 3)}" for _ in range(min(2_000_000, total_bytes // 8 + 400))]
    with open(path, "w", encoding="utf-8") as out:
        while written < total_bytes:
            begin, count = rng.randrange(len(text)), rng.randrange(2, 400)
            line = json.dumps({"id": f"doc-{i}", "title": f"Title {i}", "text": " ".join(text[begin:begin + count])}) + "\n"
            written += out.write(line)
            i += 1
    return i


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--times", type=float, default=1.5)
    parser.add_argument("--vectors", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lectern-memory-") as work:
        lectern = Program(args.program, work + "/data")
        models = os.environ.get("LECTERN_MODELS_DIR")
        if models:
            lectern.env["LECTERN_MODELS_DIR"] = models
        encoder = [] if args.vectors else ["--embed-model", "none"]
        path = work + "/docs.jsonl"
        base = 0
        if args.vectors:
            with open(work + "/one.jsonl", "w", encoding="utf-8") as out:
                out.write('{"id":"a","text":"one"}\n')
            base = lectern.run("ingest", "one", work + "/one.jsonl").peak_bytes
        # In a process of its own: what is resident here when a program is started counts as that program's peak.
        with multiprocessing.get_context("spawn").Pool(1) as writer:
            count = writer.apply(write_corpus, (path, int(args.mib * args.times * (1 << 20))))
        limit = base + int(1.1 * args.mib * (1 << 20))
        figures, broken = [], []
        for name, command in (("ingest", ["ingest", "c", path, *encoder, "--no-index", "--rejects", work + "/rejects"]),
                              ("index update", ["index", "update", "c"]),
                              ("index build", ["index", "build", "c"])):
            peak = lectern.run(*command, "--memory", f"{args.mib}MiB", timeout=3000).peak_bytes
            figures.append(f"{name} {peak / (1 << 20):.0f}")
            if peak > limit:
                broken.append(f"{name} peaked at {peak / (1 << 20):.1f} MiB")
        status = json.loads(lectern.run("--json", "index", "status", "c").stdout)
        print(f"memory: {count} documents, {os.path.getsize(path) >> 20} MiB, --memory {args.mib} MiB; peak MiB: {', '.join(figures)}; "
              f"{len(status['segments'])} segments" + (f"; base {base >> 20} MiB" if base else ""))
        if broken:
            raise Broken(f"{'; '.join(broken)}, over --memory {args.mib} MiB and a tenth")

        peaks = []
        for queries in (100, 1100):
            topics = f"{work}/topics-{queries}.tsv"
            rng = random.Random(7)
            with open(topics, "w", encoding="utf-8") as out:
                for i in range(queries):
                    out.write(f"{i}\t{rng.choice(WORDS)} w{rng.randrange(3000)} {rng.choice(WORDS)}\n")
            peaks.append(lectern.run("-q", "search", "c", "--topics", topics, "--k", "10", "--run", work + "/run",
                                     "--retrievers", "bm25").peak_bytes)
        print(f"memory: 100 searches {peaks[0] / (1 << 20):.1f} MiB, 1,100 searches {peaks[1] / (1 << 20):.1f} MiB")
        # What later queries touch of the mapped index counts as resident: the index's own size bounds it.
        if peaks[1] > peaks[0] + min(status["bytes"], 16 << 20):
            raise Broken(f"a thousand more searches took {(peaks[1] - peaks[0]) >> 10} KiB more")


if __name__ == "__main__":
    try:
        main()
    except Broken as problem:
        sys.exit(f"memory: {problem}")
