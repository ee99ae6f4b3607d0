#!/usr/bin/env python3
"""Chooses the fusion's method and weights leave-one-set-out, from what the retrievers of `lectern search` gave.

  scripts/choose_fusion.py --lectern build/release/service/lectern --data DIR \\
      scifact:DATA/scifact/queries.jsonl:DATA/scifact/qrels/test.tsv nq:DATA/nq/queries.dev.jsonl:DATA/nq/qrels/dev.tsv ...

Each set is COLLECTION:TOPICS:QRELS. The candidates of both retrievers (200 each), each scored by both, come from
`lectern search --topics --json`; --cache DIR keeps them. Fused here by the formulas of index/fusion.h over a grid of methods
and weights; nDCG@10 has linear gain and the engine's ties. For each set, the setting with the best mean gain over the better
of BM25 and dense on the *other* sets is applied to it: the held-out row. Prints
the grid, the held-out rows and the setting chosen over all sets, which is the default to ship.
"""
import argparse
import gzip
import json
import os
import subprocess
import sys
from collections import defaultdict

import numpy as np


def read_qrels(path):
    qrels = defaultdict(dict)
    for line in open(path):
        c = line.split()
        if len(c) >= 3 and c[0] not in ("query-id", "query_id"):
            qrels[c[0]][c[-2]] = int(float(c[-1]))
    return qrels


def candidates(a, collection, topics):
    """A line a query: {"query_id", "hits": [{"doc_id", "sources": {"bm25": {"rank", "score"}, "dense": ...}}]}."""
    path = os.path.join(a.cache, collection + ".ndjson.gz") if a.cache else None
    if path and os.path.exists(path):
        return gzip.open(path, "rt")
    out = subprocess.run([a.lectern, "--data", a.data, "--json", "-q", "search", collection, "--topics", topics,
                          "--candidates", str(a.depth), "--k", str(2 * a.depth)], check=True, stdout=subprocess.PIPE, text=True).stdout
    if path:
        os.makedirs(a.cache, exist_ok=True)
        with gzip.open(path, "wt", 1) as f:
            f.write(out)
    return out.splitlines()


class Set:
    """Matrices [query, candidate], candidates by document id: ranks (0: not found), scores, grades; best DCG a query."""

    def __init__(self, a, collection, topics, qrels_path):
        qrels = read_qrels(qrels_path)
        found = {}
        for line in candidates(a, collection, topics):
            response = json.loads(line)
            if response["degraded"]:
                sys.exit(f"{collection}: degraded: {response['degraded']}")
            if response["query_id"] in qrels:
                found[response["query_id"]] = sorted(
                    (h["doc_id"], h["sources"]["bm25"]["rank"] or 0, h["sources"]["bm25"]["score"],
                     h["sources"]["dense"]["rank"] or 0, h["sources"]["dense"]["score"]) for h in response["hits"])
        shape = (len(qrels), max(len(rows) for rows in found.values()))
        self.valid = np.zeros(shape, bool)
        self.ranks, self.scores, self.grades = np.zeros((2, *shape)), np.zeros((2, *shape)), np.zeros(shape)
        self.best = np.zeros(shape[0])
        for q, (query, grades) in enumerate(qrels.items()):
            ideal = sorted((g for g in grades.values() if g > 0), reverse=True)[:10]
            self.best[q] = sum(g / np.log2(i + 2) for i, g in enumerate(ideal))
            rows = found.get(query, [])
            n = len(rows)
            self.valid[q, :n] = True
            self.grades[q, :n] = [max(0, grades.get(r[0], 0)) for r in rows]
            for i in (0, 1):
                self.ranks[i, q, :n] = [r[1 + 2 * i] for r in rows]
                self.scores[i, q, :n] = [r[2 + 2 * i] for r in rows]

    def own(self, i):   # the retriever's own scores; nan elsewhere
        return np.where(self.valid & (self.ranks[i] > 0), self.scores[i], np.nan)

    def ndcg10(self, values):
        values = np.where(self.valid, values, -np.inf)
        top = np.argsort(-values, axis=1, kind="stable")[:, :10]   # ties: by document id
        gains = np.take_along_axis(self.grades, top, 1)
        gains[~np.isfinite(np.take_along_axis(values, top, 1))] = 0
        dcg = (gains / np.log2(np.arange(gains.shape[1]) + 2)).sum(1)
        return float(np.where(self.best > 0, dcg / np.maximum(self.best, 1e-12), 0).mean())


def rrf(k):
    return lambda s, i: np.where(s.ranks[i] > 0, 1 / (k + s.ranks[i]), 0)


def scaled(floors):
    """(score - floor) / (best - floor); floors None: the lowest that the retriever found, which also stands for the rest."""
    def part(s, i):
        own = s.own(i)
        high = np.nan_to_num(np.nanmax(np.where(np.isnan(own), -np.inf, own), 1, keepdims=True), neginf=1)
        if floors is not None:
            return (s.scores[i] - floors[i]) / np.maximum(high - floors[i], 1e-9)
        low = np.nan_to_num(np.nanmin(np.where(np.isnan(own), np.inf, own), 1, keepdims=True), posinf=0)
        return np.where(np.isnan(own), 0, (np.nan_to_num(own) - low) / np.maximum(high - low, 1e-9))
    return part


def standard(s, i):
    own = s.own(i)
    count = np.maximum((~np.isnan(own)).sum(1, keepdims=True), 1)
    mean = np.nansum(own, 1, keepdims=True) / count
    deviation = np.sqrt(np.nansum((own - mean) ** 2, 1, keepdims=True) / count)
    return (s.scores[i] - mean) / np.maximum(deviation, 1e-9)


METHODS = {"rrf k=60": rrf(60), "rrf k=10": rrf(10), "relative": scaled(None), "linear": scaled((0.0, 0.0)),
           "linear from -1": scaled((0.0, -1.0)), "standard": standard}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("sets", nargs="+")
    ap.add_argument("--lectern", default="build/release/service/lectern")
    ap.add_argument("--data", required=True)
    ap.add_argument("--cache")
    ap.add_argument("--depth", type=int, default=200)
    ap.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    ap.add_argument("--json")
    a = ap.parse_args()
    sets, base, table = [], {}, defaultdict(dict)
    shares = [i / 20 for i in range(1, 20)]   # the dense retriever's share of the weight
    for one in a.sets:
        name, topics, qrels_path = one.split(":")
        s = Set(a, name, topics, qrels_path)
        base[name] = tuple(s.ndcg10(np.where(np.isnan(s.own(i)), -np.inf, s.own(i))) for i in (0, 1))
        sets.append(name)
        for method in a.methods:
            bm25, dense = METHODS[method](s, 0), METHODS[method](s, 1)
            for w in shares:
                table[method, w][name] = s.ndcg10((1 - w) * bm25 + w * dense)
    better = {s: max(base[s]) for s in sets}
    print("set        " + " ".join(f"{s:>10}" for s in sets))
    for i, what in enumerate(("bm25", "dense")):
        print(f"{what:<22}" + " ".join(f"{base[s][i]:10.4f}" for s in sets))
    for method in a.methods:
        for w in shares:
            gains = [table[method, w][s] - better[s] for s in sets]
            print(f"{method:<14} {w:6.2f} " + " ".join(f"{table[method, w][s]:10.4f}" for s in sets) +
                  f"   mean gain {sum(gains) / len(gains):+.4f}  worst {min(gains):+.4f}")

    def choose(others):
        return max(table, key=lambda c: (sum(table[c][s] - better[s] for s in others) / max(1, len(others)), -abs(c[1] - 0.5)))

    held_out = []
    for s in sets:
        method, w = choose([o for o in sets if o != s])
        held_out.append({"set": s, "method": method, "dense_share": w, "ndcg10": round(table[method, w][s], 4),
                         "bm25": round(base[s][0], 4), "dense": round(base[s][1], 4), "gain": round(table[method, w][s] - better[s], 4)})
        print("held out", json.dumps(held_out[-1]))
    method, w = choose(sets)
    chosen = {"method": method, "dense_share": w, "ndcg10": {s: round(table[method, w][s], 4) for s in sets}}
    print("chosen over all", json.dumps(chosen))
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"sets": {s: {"bm25": base[s][0], "dense": base[s][1]} for s in sets}, "held_out": held_out, "chosen": chosen,
                       "grid": [{"method": m, "dense_share": w, **v} for (m, w), v in table.items()]}, f, indent=1)


if __name__ == "__main__":
    main()
