#!/usr/bin/env python3
"""Writes data/golden/measures.json: random judgements and runs, ties included, with the values of ir_measures.

Needs ir_measures, pytrec-eval-terrier and perl (gdeval). Seed 5.   scripts/make_golden_measures.py > data/golden/measures.json
"""
import json
import random
import sys

import ir_measures
from importlib.metadata import version

NAMES = "AP AP@20 nDCG nDCG@5 nDCG@10 RR P@5 P@20 R@10 R@100 Success@1 Success@10 Rprec Bpref ERR@20"


def main():
    rng = random.Random(5)
    qrels, run = {}, {}
    for q in range(12):
        docs = [f"d{i:03d}" for i in range(60)]
        grades = {d: rng.choice([0, 0, 0, 1, 2, 3]) for d in rng.sample(docs, rng.choice([4, 15, 40]))}
        if not any(grades.values()):
            grades[docs[0]] = 1
        qrels[f"{q + 1}"] = grades
        if q != 7:  # a judged query that the run lacks
            found = rng.sample(docs, rng.choice([1, 12, 50]))
            run[f"{q + 1}"] = {d: round(rng.random() * rng.choice([1, 3, 10])) / 2 for d in found}
    measures = [ir_measures.parse_measure(n) for n in NAMES.split()]
    values = {}
    for metric in ir_measures.iter_calc(measures, qrels, run):
        values.setdefault(metric.query_id, {})[str(metric.measure)] = metric.value
    json.dump({"made_by": "scripts/make_golden_measures.py, seed 5", "ir_measures": version("ir_measures"),
               "pytrec_eval_terrier": version("pytrec-eval-terrier"), "qrels": qrels, "run": run, "values": values},
              sys.stdout, indent=0, sort_keys=True)


if __name__ == "__main__":
    main()
