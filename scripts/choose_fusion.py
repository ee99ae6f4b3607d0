#!/usr/bin/env python3
"""Chooses the fusion's method and weights leave-one-set-out, and measures what is shipped; rows on file, tables from the rows.

  scripts/choose_fusion.py --lectern build/release/service/lectern --rows bench/results/fusion.jsonl \\
      scifact:DATA_DIR:scifact:queries.jsonl:qrels/test.tsv nq:DATA_DIR:nq:queries.dev.jsonl:qrels/dev.tsv ...
  scripts/choose_fusion.py --table bench/results/fusion.jsonl

Each set is NAME:DATA_DIRECTORY:COLLECTION:TOPICS:QRELS, its collection indexed with vectors. The candidates and both retrievers' scores
of every one of them are the engine's own (`search --topics --chunks --json`, 200 a retriever, as a search for ten has them); they are
fused here by the formulas of index/fusion.h over a grid of methods and weights. For each set the setting with the best mean gain in
nDCG@10 over the better of BM25 and vectors on the *other* sets is the held-out one; the best over all sets is the default to ship.
The default and the held-out settings are then run by `lectern eval search`, which must give the grid's figure to the last digit, and compared
with the better of the two retrievers by `lectern eval compare`. Nothing but versions and figures is in the rows: two runs give equal files.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict

import numpy as np

DEPTH = 200   # candidates of a retriever, as of a search for up to 200 hits
SHARES = [i / 20 for i in range(1, 20)]   # the vectors' share of the weight
FLAGS = {"rrf k=60": ["--fusion", "rrf"], "rrf k=10": ["--fusion", "rrf", "--rrf-k", "10"], "relative": ["--fusion", "relative"], "linear": ["--fusion", "linear"]}


def weights(share):
    return round(2 * (1 - share), 4), round(2 * share, 4)


def read_qrels(path):
    qrels = defaultdict(dict)
    for line in open(path):
        c = line.split()
        if len(c) >= 3 and c[0] not in ("query-id", "query_id"):
            qrels[c[0]][c[-2]] = int(float(c[-1]))
    return qrels


class Set:
    """Arrays [query, candidate], documents by id and chunks in order: ranks and scores of both retrievers (rank 0: not found)."""

    def __init__(self, lectern, spec, tmp):
        self.name, self.data, self.collection, topics, self.qrels_path = spec.split(":")
        self.lectern = [lectern, "--data", self.data, "-q", "--no-progress"]
        self.qrels = read_qrels(self.qrels_path)
        self.topics = os.path.join(tmp, self.name + ".topics.jsonl")
        with open(topics) as f, open(self.topics, "w") as out:
            out.writelines(line for line in f if str(json.loads(line).get("_id", json.loads(line).get("id"))) in self.qrels)
        found = self.candidates()
        shape = (len(self.qrels), max(len(rows) for rows in found.values()))
        self.ranks, self.scores = np.zeros((2, *shape)), np.zeros((2, *shape))
        self.grades, self.document = np.zeros(shape), np.full(shape, -1)
        self.best = np.zeros(shape[0])
        for q, (query, grades) in enumerate(self.qrels.items()):
            ideal = sorted((g for g in grades.values() if g > 0), reverse=True)[:10]
            self.best[q] = sum(g / np.log2(i + 2) for i, g in enumerate(ideal))
            ids = {}
            for c, (document, _, *sources) in enumerate(sorted(found.get(query, []))):
                self.document[q, c] = ids.setdefault(document, len(ids))
                self.grades[q, c] = max(0, grades.get(document, 0))
                for i, (rank, score) in enumerate(sources):
                    self.ranks[i, q, c], self.scores[i, q, c] = rank, score
        self.valid = self.document >= 0

    def candidates(self):
        """query -> (document, chunk, (rank, score) by BM25, by the vectors)."""
        command = [*self.lectern, "--json", "search", self.collection, "--topics", self.topics, "--chunks", "--candidates", str(DEPTH), "--k", str(2 * DEPTH)]
        out = {}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                response = json.loads(line)
                if "hits" not in response:
                    continue
                rows = out[str(response["query_id"])] = []
                for hit in response["hits"]:
                    sources = [(hit["sources"][r]["rank"] or 0, hit["sources"][r]["score"]) for r in ("bm25", "dense")]
                    rows.append((hit["doc_id"], int(hit["chunk_id"].rpartition("#")[2]), *sources))
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit {process.returncode}")
        return out

    def ndcg10(self, values):
        """Documents stand for their best chunk; ties by document id."""
        values = np.where(self.valid, values, -np.inf)
        order = np.argsort(-values, axis=1, kind="stable")
        total = np.zeros(len(values))
        for q, row in enumerate(order):
            seen, dcg = set(), 0.0
            for c in row[: 10 * 8] if len(set(self.document[q, row[:80]])) >= 10 else row:
                if not np.isfinite(values[q, c]) or len(seen) == 10:
                    break
                if self.document[q, c] in seen:
                    continue
                seen.add(self.document[q, c])
                dcg += self.grades[q, c] / np.log2(len(seen) + 1)
            total[q] = dcg / self.best[q] if self.best[q] > 0 else 0
        return float(total.mean())

    def parts(self, method):
        """What the two lists add to a candidate, before their weights: index/fusion.cc."""
        out = []
        for i in (0, 1):
            own = self.ranks[i] > 0
            if method.startswith("rrf"):
                out.append(np.where(own, 1 / (int(method.split("=")[1]) + self.ranks[i]), 0))
                continue
            high = np.where(own, self.scores[i], -np.inf).max(1, keepdims=True)
            if method == "linear":
                scale = np.divide(1.0, high, out=np.zeros_like(high), where=np.isfinite(high) & (high > 0))
                out.append(self.scores[i] * scale)
            else:
                low = np.where(own, self.scores[i], np.inf).min(1, keepdims=True)
                scale = np.divide(1.0, high - low, out=np.zeros_like(high), where=np.isfinite(high) & (high > low))
                out.append(np.where(own, np.where(high > low, (self.scores[i] - np.where(np.isfinite(low), low, 0)) * scale, 1.0), 0))
        return out

    def measure(self, run, flags):
        """`lectern eval search`, its run kept for compare."""
        out = subprocess.run([*self.lectern, "--json", "eval", "search", self.collection, "--topics", self.topics, "--qrels", self.qrels_path, "--k", "100",
                              "--measures", "nDCG@10 R@100", "--save-run", run, *flags], capture_output=True, text=True)
        if out.returncode != 0:
            sys.exit(f"{self.name}: eval search {' '.join(flags)}: exit {out.returncode}\n{out.stderr}")
        return json.loads(out.stdout)

    def compare(self, base, run):
        out = subprocess.run([*self.lectern, "--json", "eval", "compare", base, run, "--qrels", self.qrels_path, "--measures", "nDCG@10"],
                             capture_output=True, text=True, check=True)
        row = json.loads(out.stdout)
        return {k: row[k] for k in ("difference", "low", "high", "p", "wins", "losses", "ties")}


def measured(sets, lectern, tmp):
    version = subprocess.run([lectern, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    rows = [{"row": "about", "engine": version, "candidates": DEPTH, "methods": list(FLAGS), "sets": [s.name for s in sets]}]
    base, table = {}, defaultdict(dict)
    for s in sets:
        for method in FLAGS:
            bm25, dense = s.parts(method)
            for share in SHARES:
                a, b = weights(share)
                table[method, share][s.name] = s.ndcg10(a * bm25 + b * dense)
        runs = {r: os.path.join(tmp, f"{s.name}.{r}") for r in ("bm25", "dense")}
        alone = {r: s.measure(runs[r], ["--retrievers", r]) for r in runs}
        base[s.name] = {r: alone[r]["mean"]["nDCG@10"] for r in runs}
        s.better = runs[max(base[s.name], key=base[s.name].get)]
        about = alone["dense"]
        rows.append({"row": "set", "set": s.name, "documents": about["documents"], "chunks": about["chunks"], "queries": about["queries"],
                     **{r: alone[r]["mean"] for r in runs}})
    names = [s.name for s in sets]
    better = {n: max(base[n].values()) for n in names}

    def choose(others):
        return max(table, key=lambda c: (sum(table[c][n] - better[n] for n in others) / max(1, len(others)), -abs(c[1] - 0.5)))

    def run(kind, s, setting, flags):
        out = s.measure(os.path.join(tmp, f"{s.name}.{kind}"), flags)
        got, grid = out["mean"]["nDCG@10"], table[setting][s.name]
        if abs(got - grid) > 1e-12:
            sys.exit(f"{s.name}: {setting} has {grid!r} in the grid and {got!r} by lectern eval search")
        rows.append({"row": kind, "set": s.name, "method": setting[0], "dense_share": setting[1], "mean": out["mean"], "better": better[s.name],
                     **s.compare(s.better, os.path.join(tmp, f"{s.name}.{kind}"))})

    chosen = choose(names)
    for s in sets:
        run("default", s, chosen, [])
    for s in sets:
        setting = choose([n for n in names if n != s.name])
        a, b = weights(setting[1])
        run("held_out", s, setting, [*FLAGS[setting[0]], "--weights", f"bm25={a},dense={b}"])
    rows += [{"row": "grid", "method": m, "dense_share": w, **v} for (m, w), v in table.items()]
    return rows


def print_table(rows):
    sets = {r["set"]: r for r in rows if r["row"] == "set"}
    for kind, what in (("default", "fused"), ("held_out", "fused as the other sets choose")):
        print(f"\n| set | BM25 | MiniLM | {what} | against the better | p | wins / losses / ties | R@100: BM25, MiniLM, fused |\n" + "| --- " * 8 + "|")
        for r in (r for r in rows if r["row"] == kind):
            own = sets[r["set"]]
            setting = f"{r['mean']['nDCG@10']:.4f}" + (f" ({r['method']}, vectors {r['dense_share']:.2f})" if kind == "held_out" else "")
            print(f"| {r['set']} | {own['bm25']['nDCG@10']:.4f} | {own['dense']['nDCG@10']:.4f} | {setting} | {r['difference']:+.4f} [{r['low']:.4f}, {r['high']:.4f}] | "
                  f"{r['p']:.4f} | {r['wins']} / {r['losses']} / {r['ties']} | {own['bm25']['R@100']:.4f}, {own['dense']['R@100']:.4f}, {r['mean']['R@100']:.4f} |")
    grid = [r for r in rows if r["row"] == "grid"]
    better = {s: max(own["bm25"]["nDCG@10"], own["dense"]["nDCG@10"]) for s, own in sets.items()}
    print("\n| method | best share of the vectors | mean gain | worst |\n| --- | --- | --- | --- |")
    for method in FLAGS:
        gains = {r["dense_share"]: [r[s] - better[s] for s in sets] for r in grid if r["method"] == method}
        share = max(gains, key=lambda w: sum(gains[w]))
        print(f"| {method} | {share:.2f} | {sum(gains[share]) / len(sets):+.4f} | {min(gains[share]):+.4f} |")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("sets", nargs="*")
    ap.add_argument("--lectern")
    ap.add_argument("--rows", help="write the rows here")
    ap.add_argument("--table", help="print the tables of these rows")
    a = ap.parse_args()
    if a.table:
        print_table([json.loads(line) for line in open(a.table)])
        return
    with tempfile.TemporaryDirectory() as tmp:
        rows = measured([Set(a.lectern, spec, tmp) for spec in a.sets], a.lectern, tmp)
    if a.rows:
        with open(a.rows, "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)
    print_table(rows)


if __name__ == "__main__":
    main()
