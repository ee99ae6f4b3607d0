#!/usr/bin/env python3
"""The table of bench/results/manifold_texts.jsonl (`lectern eval manifold --collection`), and what it comes to.

  manifold_texts.py [ROWS]      # exit 1 where `auto` loses for certain, or more than .002 on clean texts

`auto` is the fitted vectors where its check lets them, else the raw ones: off means a difference of nothing."""
import json
import os
import sys

NAMES = {"scifact": "SciFact", "nfcorpus": "NFCorpus", "nq": "NQ", "squad": "SQuAD"}
TOLERANCE = 0.002
DEFAULT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "manifold_texts.jsonl")


def certain(system):
    return (system["low"] > 0) - (system["high"] < 0)


def line(row):
    decision, check = row["decision"], row["decision"]["check"]
    systems = {s["name"]: s for s in row["systems"]}

    def shown(name):
        s = systems[name]
        return f"**{s['difference']:+.4f}**" if certain(s) else f"{s['difference']:+.4f}"

    def interval(mean, low, high):
        return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"

    clean, gated = row["noise"] == "clean", systems["gated"]
    cells = [NAMES.get(row["collection"], row["collection"]), "clean" if clean else f"{row['noise']} {row['level']:g}", row["seed"],
             "on" if decision["on"] else "off", f"{decision['sigma2'] ** .5:.4f} / {row['true_sigma']:.4f}", f"{decision['rho2_over_sigma2']:.1f}",
             f"{decision['k']}/{decision['d']}", interval(check["gain"], check["low"], check["high"]),
             interval(check["found_gain"], check["found_low"], check["found_high"]), f"{systems['raw']['ndcg10']:.4f}",
             *(shown(n) for n in ("global PCA", "DBA mean", "vector feedback", "ungated")),
             f"{shown('gated')} [{gated['low']:+.4f}, {gated['high']:+.4f}]", shown("full sigma2"), "" if clean else shown("true sigma2"),
             f"{check['detectable']:.4f}, {(check['found_high'] - check['found_low']) / 2:.4f}, {row['detectable_ndcg10']:.4f}",
             f"{row['hubness_raw']['skew']:.2f}, {row['hubness_gated']['skew']:.2f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main():
    with open(sys.argv[1] if len(sys.argv) > 1 else DEFAULT, encoding="utf-8") as lines:
        rows = [json.loads(one) for one in lines]
    print("| | noise | seed | auto | sigma: replicas / true | rho2/sigma2 | k/d | check: recall | check: questions | raw | PCA | DBA | feedback | ungated |"
          " gated | full sigma2 | true sigma2 | smallest effect seen: recall, questions, nDCG@10 | hubness raw, gated |")
    print("| --- | --- | ---: | --- | --- | ---: | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- | --- |")
    for row in rows:
        print(line(row))
    print()
    for name in ("global PCA", "DBA mean", "vector feedback", "ungated", "gated", "full sigma2", "true sigma2"):
        counts = []
        for collection in NAMES:
            of = [certain(s) for r in rows if r["collection"] == collection for s in r["systems"] if s["name"] == name]
            counts.append(f"{NAMES[collection]} +{of.count(1)} -{of.count(-1)} of {len(of)}")
        print(f"{name}, for certain: {', '.join(counts)}")
    harmed = 0
    for row in rows:
        gated = next(s for s in row["systems"] if s["name"] == "gated")
        if row["decision"]["on"] and (certain(gated) < 0 or (row["noise"] == "clean" and gated["difference"] < -TOLERANCE)):
            harmed += 1
    check = [r["decision"]["check"] for r in rows]
    print(f"auto: on in {sum(r['decision']['on'] for r in rows)} of {len(rows)}; harm in {harmed}; recall above {TOLERANCE} for certain in "
          f"{sum(c['low'] > TOLERANCE for c in check)}, above nothing in {sum(c['low'] > 1e-9 for c in check)}; questions lose for certain in "
          f"{sum(c['found_high'] < 0 for c in check)}, more than {TOLERANCE} cannot be ruled out in {sum(c['found_low'] < -TOLERANCE for c in check)}")
    return 1 if harmed else 0


if __name__ == "__main__":
    sys.exit(main())
