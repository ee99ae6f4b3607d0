#!/usr/bin/env python3
"""How soon added documents are found: from the printed `durable_seq` to the first search that returns them.

  bench/freshness.py LECTERN DATA_DIRECTORY COLLECTION [--documents 100] [--rounds 5]

Works on a copy of the data directory. Each round, one process ingests documents with words that no other document has; the
clock starts when it prints `durable_seq`. Meanwhile `lectern search` runs again and again, each time a new process that opens
the collection, until all of them are found. The index report's `encode_seconds` is taken off: encoding is measured apart.
Prints a JSON line a round, then the summary.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("lectern")
    ap.add_argument("data")
    ap.add_argument("collection")
    ap.add_argument("--documents", type=int, default=100)
    ap.add_argument("--rounds", type=int, default=5)
    a = ap.parse_args()
    filler = "the river carries timber and grain past mills and quiet towns before it meets the sea near an old harbour wall"
    with tempfile.TemporaryDirectory() as tmp:
        data = os.path.join(tmp, "data")
        shutil.copytree(a.data, data)
        run = [a.lectern, "--data", data, "-q", "--json"]
        waits = []
        for r in range(a.rounds):
            word = f"zyxq{r}w{os.getpid()}"
            path = os.path.join(tmp, f"new{r}.jsonl")
            with open(path, "w") as f:
                for i in range(a.documents):
                    f.write(json.dumps({"id": f"new-{r}-{i}", "title": f"Note {i}", "text": f"{word} note number {i}: {filler} {i * i}."}) + "\n")
            ingest = subprocess.Popen(run + ["ingest", a.collection, path, "--rejects", os.path.join(tmp, "rejects")],
                                      stdout=subprocess.PIPE, text=True)
            committed, report = None, {}
            for line in ingest.stdout:     # the last commit's line
                entry = json.loads(line)
                if "durable_seq" in entry:
                    committed = time.monotonic()
                    break
            searches, found = 0, 0
            while found < a.documents:
                done = subprocess.run(run + ["search", a.collection, word, "--retrievers", "bm25", "--k", str(a.documents)],
                                      stdout=subprocess.PIPE, text=True, check=True)
                found = len(json.loads(done.stdout)["hits"])
                searches += 1
                if time.monotonic() - committed > 120:
                    raise SystemExit("not found after 120 s")
            seen = time.monotonic()
            for line in ingest.stdout:
                report.update(json.loads(line).get("index", {}))
            if ingest.wait() != 0:
                raise SystemExit("ingest failed")
            wait = seen - committed - report["encode_seconds"]
            waits.append(wait)
            print(json.dumps({"round": r, "documents": a.documents, "searches": searches, "found_after_s": round(seen - committed, 3),
                              "encode_s": round(report["encode_seconds"], 3), "without_encoding_s": round(wait, 3)}), flush=True)
        print(json.dumps({"what": "freshness", "collection": a.collection, "rounds": a.rounds,
                          "without_encoding_s": {"median": round(statistics.median(waits), 3), "longest": round(max(waits), 3)}}))


if __name__ == "__main__":
    main()
