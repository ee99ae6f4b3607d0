#!/usr/bin/env python3
"""Fits the answerer's ranking and trust (service/answer/calibration.cc) and prints the tables to put there.

  lectern eval answers --questions train-v1.1.json.xz --limit 400 --answer-mode span --out rank.jsonl
  lectern eval answers --questions dev-v2.0.json.xz --limit 2000 --answer-mode span --out trust.jsonl
  fit_calibrator.py rank  train-v1.1.json.xz rank.jsonl
  fit_calibrator.py trust dev-v2.0.json.xz trust.jsonl [QUESTIONS.jsonl answers.jsonl ...]

Every feature is in the answers file, whatever the shipped weights are: nothing is read again. --half 0|1 keeps the questions whose
title (or gold document, or id) has an even or odd CRC-32, as `eval answers --half` does; the other half is there to report on.
`eval answers --predictions FILE --rejudge` shows what the new numbers do once they are built in.

rank: softmax over the candidates of a question, each weighted by its token F1. trust: logistic regression on whether the chosen
answer is right (F1 0.5 or more), or with --target answerable on whether the question has an answer. Both with an L2 penalty on standardised
features, chosen by 5-fold cross-validation: over questions for rank, over titles for trust. The threshold keeps 91 % of the exact answers. "on file" is
the trust the answers were given with. Files may be packed (.xz). Needs numpy and scipy.
"""
import argparse
import collections
import json
import lzma
import re
import string
import zlib

import numpy as np
from scipy.optimize import minimize

RANK = ("logprob tokens log_tokens end_logprob coverage in_question fits misfits punctuation empty question_logprob yes").split()
FIRST = [i for i, name in enumerate(RANK) if name not in ("question_logprob", "yes")]
TRUST = ("logprob not_found tokens coverage gap missing_names in_question negated negation_differs question_words "
         "question_logprob worst_question_word worst_gain refusal yes gain worst_word_gain unexplained").split()


KEPT = 0.91  # share of the exact answers that the threshold keeps


def opened(path):
    return (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8")


def normalise(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(text, golds):
    best = 0.0
    for gold in golds:
        p, g = normalise(text), normalise(gold)
        same = sum((collections.Counter(p) & collections.Counter(g)).values())
        best = max(best, 2 * same / (len(p) + len(g)) if same else float(p == g and not p))
    return best


def golds_of(path, half=-1):
    """Accepted answers by id."""
    return {q["id"]: q["answers"] for q in questions_of(path)
            if half < 0 or zlib.crc32((q.get("title") or q.get("doc_id") or q["id"]).encode()) % 2 == half}


def questions_of(path):
    with opened(path) as f:
        text = f.read()
    if '"data"' in text[:200]:
        return [{"id": qa["id"], "title": article["title"], "answers": [a["text"] for a in qa["answers"]]}
                for article in json.loads(text)["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [{**row, "id": row.get("id") or row["_id"]} for row in rows]


def rows_of(path, golds):
    with opened(path) as f:
        return [row for row in map(json.loads, f) if row.get("id") in golds and "features" in row]


def standard(x):
    mean, scale = x.mean(0), x.std(0)
    scale[scale == 0] = 1
    return mean, scale


def fit_softmax(groups, l2):
    """groups: (features [candidate, feature], gains [candidate]); maximises the expected gain's log."""
    n = groups[0][0].shape[1]

    def loss(w):
        total, grad = l2 * (w @ w), 2 * l2 * w
        for x, gain in groups:
            score = x @ w
            p = np.exp(score - score.max())
            p /= p.sum()
            expected = p @ gain
            if expected <= 0:
                continue
            total -= np.log(expected)
            grad = grad - ((p * gain / expected) - p) @ x
        return total, grad
    return minimize(loss, np.zeros(n), jac=True, method="L-BFGS-B").x


def rank(args):
    golds = golds_of(args.files[0], args.half)
    questions = rows_of(args.files[1], golds)
    for name, columns, judged in (("kRankFirst", FIRST, False), ("kRankSecond", list(range(len(RANK))), True)):
        groups = []
        for row in questions:
            candidates = [c for c in row["features"]["candidates"] if c["judged"] or not judged]
            x = np.array([c["rank"] for c in candidates])
            groups.append((x[:, columns], np.array([f1(c["text"], golds[row["id"]]) for c in candidates])))
        mean, scale = standard(np.concatenate([x for x, _ in groups]))
        groups = [((x - mean) / scale, g) for x, g in groups]

        def score(w, part):
            chosen = [(g[np.argmax(x @ w)], g.max()) for x, g in part]
            return np.mean([c == 1 for c, _ in chosen]), np.mean([c for c, _ in chosen]), np.mean([m == 1 for _, m in chosen])
        best = None
        for l2 in (0.1, 1, 10):
            folds = [score(fit_softmax([g for i, g in enumerate(groups) if i % 5 != k], l2), groups[k::5]) for k in range(5)]
            em, mean_f1, oracle = np.mean(folds, 0)
            print(f"# {name} l2 {l2}: cross-validated EM {em:.3f} F1 {mean_f1:.3f}, best candidate EM {oracle:.3f}, n {len(groups)}")
            best = max(best or (0, 0), (mean_f1, l2))
        w = fit_softmax(groups, best[1]) / scale
        full = np.zeros(len(RANK))
        full[columns] = w
        print_table(name, RANK, full)


def fit_logistic(x, y, l2):
    def loss(w):
        z = x @ w[:-1] + w[-1]
        p = 1 / (1 + np.exp(-z))
        value = np.logaddexp(0, -z)[y == 1].sum() + np.logaddexp(0, z)[y == 0].sum() + l2 * (w[:-1] @ w[:-1])
        return value, np.append((p - y) @ x + 2 * l2 * w[:-1], (p - y).sum())
    return minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x


def at_kept(trust, right, unanswerable):
    threshold = np.sort(trust[right])[int(np.floor((1 - KEPT) * right.sum()))]
    return threshold, np.mean(trust[unanswerable] < threshold), np.mean(trust[~unanswerable] < threshold)


def auc(score, of):
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    return (ranks[of].sum() - of.sum() * (of.sum() + 1) / 2) / (of.sum() * (~of).sum())


def describe(name, score, y, exact, none, false_abstentions):
    threshold, refused, lost = at_kept(score, exact, none)
    low = np.mean(score[none] < np.quantile(score[~none], false_abstentions))
    print(f"# {name}: AUC right {auc(score, y):.3f}, answerable {auc(score, ~none):.3f}; keeping {KEPT:.0%} of {exact.sum()} exact answers (from {threshold:.4f}) it "
          f"abstains on {refused:.3f} of {none.sum()} unanswerable, {lost:.3f} of {(~none).sum()} answerable; at {false_abstentions} of the answerable on {low:.3f}")


def trust(args):
    x, y, exact, none, on_file, titles = [], [], [], [], [], []
    for questions, answers in zip(args.files[::2], args.files[1::2]):
        golds = golds_of(questions, args.half)
        title = {q["id"]: q.get("title") or q["id"] for q in questions_of(questions)}
        for row in rows_of(answers, golds):
            accepted = golds[row["id"]]
            x.append(row["features"]["trust"])
            y.append(f1(row["reply"], accepted) >= 0.5)
            exact.append(any(normalise(row["reply"]) == normalise(gold) for gold in accepted))
            none.append(not accepted)
            on_file.append(row["trust"])
            titles.append(title[row["id"]])
    x, y, exact, none, on_file = np.array(x), np.array(y), np.array(exact), np.array(none), np.array(on_file)
    target = y if args.target == "right" else ~none
    keep = [i for i, name in enumerate(TRUST) if name not in args.without]
    mean, scale = standard(x)
    z = ((x - mean) / scale)[:, keep]
    fold_of = {title: i % 5 for i, title in enumerate(sorted(set(titles), key=lambda t: zlib.crc32(t.encode())))}
    fold = np.array([fold_of[title] for title in titles])
    describe("on file", on_file, y, exact, none, args.false_abstentions)
    best = None
    for l2 in (0.3, 1, 3, 10, 30):
        out = np.zeros(len(z))
        for k in range(5):
            w = fit_logistic(z[fold != k], target[fold != k], l2)
            out[fold == k] = z[fold == k] @ w[:-1] + w[-1]
        log = np.logaddexp(0, -out)[target].sum() + np.logaddexp(0, out)[~target].sum()
        describe(f"trust l2 {l2}, cross-validated, log loss {log / len(z):.4f}", out, y, exact, none, args.false_abstentions)
        if best is None or log < best[0]:
            best = (log, l2)
    w = fit_logistic(z, target, best[1])
    full, bias = np.zeros(len(TRUST)), w[-1] - (w[:-1] * (mean / scale)[keep]).sum()
    full[keep] = w[:-1] / scale[keep]
    p = 1 / (1 + np.exp(-(x @ full + bias)))
    print(f"constexpr double kTrustBias = {bias:.4f};")
    print_table("kTrust", TRUST, full)
    print(f"const double kDefaultTrust = {at_kept(p, exact, none)[0]:.4f};")


def print_table(name, names, weights):
    print(f"constexpr Weight {name}[] = {{")
    for n, w in zip(names, weights):
        print(f'    {{"{n}", {w:.4f}}},')
    print("};")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rank", "trust"])
    parser.add_argument("files", nargs="+", help="QUESTIONS ANSWERS, in pairs")
    parser.add_argument("--half", type=int, choices=[0, 1], default=-1, help="fit on this half of the titles")
    parser.add_argument("--without", nargs="*", default=[], help="trust: features to leave out")
    parser.add_argument("--target", choices=["right", "answerable"], default="right", help="trust: what is fitted")
    parser.add_argument("--false-abstentions", type=float, default=0.067, help="trust: also print what is abstained from at this share of the answerable questions")
    args = parser.parse_args()
    (rank if args.what == "rank" else trust)(args)


if __name__ == "__main__":
    main()
