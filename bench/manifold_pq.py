#!/usr/bin/env python3
"""Fit first, then quantise: FAISS's product quantiser over raw and over fitted vectors, judged by nDCG@10 and by the ten nearest
raw vectors, each query the mean of ten trainings. Usage: manifold_pq.py FOLDER QRELS  (FOLDER as written by `lectern eval manifold --collection C --dump FOLDER`)."""
import argparse
import os

import faiss
import numpy as np

K, BYTES, RESAMPLES, TRAININGS = 10, (16, 32, 64), 10000, 10


def fbin(path):
    rows, dim = np.fromfile(path, np.int32, 2)
    return np.fromfile(path, np.float32, offset=8).reshape(rows, dim)


def read_qrels(path):
    grades = {}
    for line in open(path, encoding="utf-8"):
        parts = line.split()
        if len(parts) == 4:
            query, document, grade = parts[0], parts[2], parts[3]
        elif len(parts) == 3:
            query, document, grade = parts
        else:
            continue
        if grade.lstrip("-").isdigit() and int(grade) > 0:
            grades.setdefault(query, {})[document] = int(grade)
    return grades


def ndcg(found, grades):
    gain = sum(grades.get(document, 0) / np.log2(i + 2) for i, document in enumerate(found))
    best = sum(g / np.log2(i + 2) for i, g in enumerate(sorted(grades.values(), reverse=True)[:K]))
    return gain / best


def interval(values, rng):
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1) if len(values) < 3000 else np.array(
        [values[rng.integers(0, len(values), len(values))].mean() for _ in range(2000)])
    return values.mean(), np.quantile(means, 0.025), np.quantile(means, 0.975)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("qrels")
    args = parser.parse_args()
    path = lambda name: os.path.join(args.folder, name)
    raw, fitted, queries = (fbin(path(name)) for name in ("raw.fbin", "fitted.fbin", "queries.fbin"))
    documents = open(path("documents.txt"), encoding="utf-8").read().split("\n")[:-1]
    topics = open(path("queries.txt"), encoding="utf-8").read().split("\n")[:-1]
    assert len(documents) == len(raw) == len(fitted) and len(topics) == len(queries)
    qrels = read_qrels(args.qrels)
    judged = [i for i, topic in enumerate(topics) if topic in qrels]
    truth = faiss.knn(queries, raw, K)[1]

    def measure(ids):
        recall = np.array([len(set(ids[i]) & set(truth[i])) / K for i in range(len(queries))])
        return np.array([ndcg([documents[j] for j in ids[i] if j >= 0], qrels[topics[i]]) for i in judged]), recall

    def coded(vectors, size):
        runs = []
        for seed in range(TRAININGS):  # one training against another is worth as much as the difference looked for
            index = faiss.IndexPQ(vectors.shape[1], size, 8)
            index.pq.cp.min_points_per_centroid, index.pq.cp.seed = 1, 1 + seed
            index.train(vectors)
            index.add(vectors)
            runs.append(measure(index.search(queries, K)[1]))
        return [np.mean(values, axis=0) for values in zip(*runs)]

    rng = np.random.default_rng(1)
    print(f"{len(raw)} documents, {len(queries)} queries, {len(judged)} judged, {np.any(raw != fitted, axis=1).mean():.3f} of the vectors moved, "
          f"by {np.linalg.norm(raw - fitted, axis=1).mean():.4f} on average")
    print("| bytes | raw nDCG@10 | fitted nDCG@10 | difference [95 %] | recall of the raw ten, raw | fitted | difference [95 %] |\n| ---: | ---: | ---: | --- | ---: | ---: | --- |")
    for size in BYTES + (4 * raw.shape[1],):
        whole = size == 4 * raw.shape[1]
        a, b = (measure(faiss.knn(queries, v, K)[1]) if whole else coded(v, size) for v in (raw, fitted))
        row = [str(size) + (" (float32)" if whole else "")]
        for x, y in zip(a, b):
            mean, low, high = interval(y - x, rng)
            row += [f"{x.mean():.4f}", f"{y.mean():.4f}", f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
