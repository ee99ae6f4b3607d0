#!/usr/bin/env python3
"""Do questions find their own paragraphs in other languages? BM25 over XQuAD: 240 paragraphs, 1,190 questions a language.

  bench/languages.py LECTERN ../shared/data/xquad [--languages zh th ar ...] [--analyzers icu own] [--check]

One collection a language and analyzer: `icu` for all, and the language's own Snowball stemmer where there is one. Prints a
row each: RR@10, R@1, R@10 by `lectern eval search`. --check: exit 1 where the better analyzer's R@10 is below --least (0.95)
or its RR@10 below --least-rr (0.85). Exit 77 where the data is not there.
"""
import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile

OWN = {"ar": "ar", "de": "de", "el": "el", "en": "en", "es": "es", "hi": "hi", "ro": "ro", "ru": "ru", "tr": "tr"}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("lectern")
    ap.add_argument("data")
    ap.add_argument("--languages", nargs="+", default="ar de el en es hi ro ru th tr vi zh".split())
    ap.add_argument("--analyzers", nargs="+", default=["icu", "own"], choices=["icu", "own"])
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--least", type=float, default=0.95)
    ap.add_argument("--least-rr", type=float, default=0.85)
    a = ap.parse_args()
    if not os.path.exists(os.path.join(a.data, "xquad.en.json.xz")):
        print(f"left out: {a.data} is not there")
        sys.exit(77)
    failed = []
    for language in a.languages:
        with lzma.open(os.path.join(a.data, f"xquad.{language}.json.xz"), "rt", encoding="utf-8") as f:
            articles = json.load(f)["data"]
        with tempfile.TemporaryDirectory() as tmp:
            at = lambda name: os.path.join(tmp, name)
            number = 0
            with open(at("corpus.jsonl"), "w") as docs, open(at("queries.jsonl"), "w") as queries, open(at("qrels"), "w") as qrels:
                for article in articles:
                    for paragraph in article["paragraphs"]:
                        number += 1
                        docs.write(json.dumps({"id": f"p{number}", "text": paragraph["context"]}) + "\n")
                        for question in paragraph["qas"]:
                            queries.write(json.dumps({"id": question["id"], "text": question["question"]}) + "\n")
                            qrels.write(f"{question['id']} 0 p{number} 1\n")
            best = {}
            for name in a.analyzers:
                analyzer = "icu" if name == "icu" else OWN.get(language)
                if analyzer is None:
                    continue
                run = [a.lectern, "--data", at("d-" + name), "-q"]
                subprocess.run(run + ["ingest", "x", at("corpus.jsonl"), "--analyzer", analyzer, "--embed-model", "none", "--chunk-tokens", "0"],
                               check=True, stdout=subprocess.DEVNULL)
                out = subprocess.run(run + ["--json", "eval", "search", "x", "--topics", at("queries.jsonl"), "--qrels", at("qrels"),
                                            "--measures", "RR@10 R@1 R@10", "--k", "100"], check=True, capture_output=True, text=True)
                scores = json.loads(out.stdout)
                row = {"language": language, "analyzer": analyzer, "paragraphs": number, "questions": scores["queries"],
                       **{k: round(v, 4) for k, v in scores["mean"].items()}}
                print(json.dumps(row), flush=True)
                if not best or row["RR@10"] > best["RR@10"]:
                    best = row
            if best["R@10"] < a.least or best["RR@10"] < a.least_rr:
                failed.append(best)
    if a.check and failed:
        print("below the least:", json.dumps(failed))
        sys.exit(1)


if __name__ == "__main__":
    main()
