#!/usr/bin/env python3
"""Chooses the fusion's method and weights leave-one-set-out, from a run of each retriever.

  lectern eval search scifact --topics ... --qrels ... --retrievers bm25 --save-run scifact.bm25    # and dense: 1,000 hits a query
  scripts/choose_fusion.py scifact:scifact.bm25:scifact.dense:DATA/scifact/qrels/test.tsv nq:nq.bm25:nq.dense:DATA/nq/qrels/dev.tsv ...

Each set is NAME:BM25_RUN:DENSE_RUN:QRELS. The candidates are the first 200 of both runs, each with the score that either run has for
it; where one of them ends before it, with the last score of that run (BM25 may end early: 0). Fused here by the formulas of
index/fusion.h over a grid of methods and weights; nDCG@10 has linear gain and the engine's ties. For each set, the setting with the
best mean gain over the better of BM25 and dense on the *other* sets is applied to it: the held-out row. Prints the grid, the held-out
rows and the setting chosen over all sets, which is the default to ship; `lectern eval search` then measures it.
"""
import argparse
import json
from collections import defaultdict

import numpy as np


def read_qrels(path):
    qrels = defaultdict(dict)
    for line in open(path):
        c = line.split()
        if len(c) >= 3 and c[0] not in ("query-id", "query_id"):
            qrels[c[0]][c[-2]] = int(float(c[-1]))
    return qrels


def read_run(path):
    run = defaultdict(dict)
    for line in open(path):
        c = line.split()
        run[c[0]][c[2]] = (int(c[3]), float(c[4]))
    return run


def candidates(runs, depth, query):
    """(document, rank and score by BM25, rank and score by the vectors), rank 0: not among the first `depth`."""
    lists = [run.get(query, {}) for run in runs]
    cut = [max(len(hits) for hits in run.values()) for run in runs]   # a list as long as this was cut, a shorter one ended
    last = [min(score for _, score in hits.values()) if len(hits) == most else 0.0 for hits, most in zip(lists, cut)]
    rows = []
    for document in sorted({d for hits in lists for d, (rank, _) in hits.items() if rank <= depth}):
        row = [document]
        for hits, floor in zip(lists, last):
            rank, score = hits.get(document, (0, floor))
            row += [rank if rank <= depth else 0, score]
        rows.append(tuple(row))
    return rows


class Set:
    """Matrices [query, candidate], candidates by document id: ranks (0: not found), scores, grades; best DCG a query."""

    def __init__(self, bm25_path, dense_path, qrels_path, depth):
        qrels = read_qrels(qrels_path)
        runs = (read_run(bm25_path), read_run(dense_path))
        found = {query: candidates(runs, depth, query) for query in qrels}
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


def scaled(every_candidate):
    """score / best score, of every candidate; or (score - lowest) / (best - lowest) of what the retriever found, 0 for the rest."""
    def part(s, i):
        own = s.own(i)
        high = np.nan_to_num(np.nanmax(np.where(np.isnan(own), -np.inf, own), 1, keepdims=True), neginf=1)
        if every_candidate:
            return s.scores[i] / np.maximum(high, 1e-9)
        low = np.nan_to_num(np.nanmin(np.where(np.isnan(own), np.inf, own), 1, keepdims=True), posinf=0)
        return np.where(np.isnan(own), 0, (np.nan_to_num(own) - low) / np.maximum(high - low, 1e-9))
    return part


METHODS = {"rrf k=60": rrf(60), "rrf k=10": rrf(10), "relative": scaled(False), "linear": scaled(True)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("sets", nargs="+")
    ap.add_argument("--depth", type=int, default=200)
    ap.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    ap.add_argument("--json")
    a = ap.parse_args()
    sets, base, table = [], {}, defaultdict(dict)
    shares = [i / 20 for i in range(1, 20)]   # the dense retriever's share of the weight
    for one in a.sets:
        name, bm25_path, dense_path, qrels_path = one.split(":")
        s = Set(bm25_path, dense_path, qrels_path, a.depth)
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
