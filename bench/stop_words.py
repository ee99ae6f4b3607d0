#!/usr/bin/env python3
"""Are stop words better kept or dropped? BM25 by the analyzers en and en-stop, one chunk a document, paired.

  bench/stop_words.py LECTERN ../shared/data > bench/results/stop_words.jsonl
  bench/stop_words.py --table bench/results/stop_words.jsonl

A row a set: nDCG@10 and R@100 of both by `lectern eval search`, dropped against kept by `lectern eval compare`, bytes of bm25.bin.
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

SETS = {"SciFact": ("scifact", "queries.jsonl", "qrels/test.tsv"), "NFCorpus": ("nfcorpus", "queries.jsonl.xz", "qrels/test.tsv"),
        "Cranfield": ("cranfield", "queries.jsonl", "qrels/test.tsv"), "NQ passages": ("nq", "queries.dev.jsonl", "qrels/dev.tsv"),
        "MS MARCO DL19 pool": ("msmarco-dl", "queries.dl19.jsonl", "qrels/dl19.tsv")}


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(lectern, folder):
    version = output(lectern, "--version").strip()
    for name, (at, topics, qrels) in SETS.items():
        topics, qrels = os.path.join(folder, at, topics), os.path.join(folder, at, qrels)
        with tempfile.TemporaryDirectory() as tmp:
            row, runs = {"set": name, "engine": version}, []
            for key, analyzer in (("kept", "en"), ("dropped", "en-stop")):
                data = os.path.join(tmp, analyzer)
                output(lectern, "--data", data, "-q", "ingest", "x", os.path.join(folder, at, "corpus.jsonl.xz"), "--analyzer", analyzer, "--chunk-tokens", "0",
                       "--embed-model", "none")
                runs.append(os.path.join(tmp, analyzer + ".run"))
                scores = json.loads(output(lectern, "--data", data, "--json", "-q", "eval", "search", "x", "--topics", topics, "--qrels", qrels,
                                           "--measures", "nDCG@10 R@100", "--k", "100", "--save-run", runs[-1]))
                row["queries"] = scores["queries"]
                row[key] = {**scores["mean"], "bm25_bytes": sum(os.path.getsize(p) for p in glob.glob(data + "/collections/x/*/bm25.bin"))}
            compared = json.loads(output(lectern, "--json", "eval", "compare", *runs, "--qrels", qrels, "--measures", "nDCG@10"))
            print(json.dumps({**row, **{k: compared[k] for k in ("difference", "low", "high", "p", "wins", "losses", "ties")}}), flush=True)


def table(path):
    print("| set | kept | dropped | difference, 95 % | wins / losses / ties | R@100 kept, dropped | bm25.bin |\n" + "| --- " * 7 + "|")
    for row in map(json.loads, open(path)):
        kept, dropped = row["kept"], row["dropped"]
        print(f"| {row['set']} | {kept['nDCG@10']:.4f} | {dropped['nDCG@10']:.4f} | {row['difference']:+.4f} [{row['low']:.4f}, {row['high']:.4f}] | "
              f"{row['wins']} / {row['losses']} / {row['ties']} | {kept['R@100']:.4f}, {dropped['R@100']:.4f} | "
              f"{100 * (dropped['bm25_bytes'] / kept['bm25_bytes'] - 1):+.1f} % |")


if __name__ == "__main__":
    if len(sys.argv) != 3 or "--help" in sys.argv:
        sys.exit(__doc__)
    table(sys.argv[2]) if sys.argv[1] == "--table" else measure(sys.argv[1], sys.argv[2])
