#!/usr/bin/env python3
"""The plane fit of bench_manifold in batched numpy over OpenBLAS: Gram matrices by matmul, eigenvectors by eigh or by the same
subspace iteration. Usage: OPENBLAS_NUM_THREADS=1 manifold_peer.py FOLDER [POINTS]  (FOLDER as written by bench_manifold)."""
import sys
import time

import numpy as np

K, DIM, D, STEPS, BLOCK = 64, 384, 16, 6, 24


def gram(x, near, raw):
    z = raw[near] - x[:, None, :]
    mean = z.mean(axis=1, keepdims=True)
    z -= mean
    return z, mean[:, 0], z @ z.transpose(0, 2, 1)


def project(z, mean, values, vectors):  # vectors [n, k, d]
    y = np.einsum("nkd,nk->nd", vectors, -(z @ mean[:, :, None])[:, :, 0]) / values
    return mean + (z.transpose(0, 2, 1) @ (vectors @ y[:, :, None]))[:, :, 0]


def by_eigh(x, near, raw):
    z, mean, g = gram(x, near, raw)
    values, vectors = np.linalg.eigh(g)
    return project(z, mean, values[:, -D:], vectors[:, :, -D:])


def by_subspace(x, near, raw, start):
    z, mean, g = gram(x, near, raw)
    q = np.broadcast_to(start, (len(x), K, BLOCK))
    for _ in range(STEPS):
        y = g @ q
        r = np.linalg.cholesky(y.transpose(0, 2, 1) @ y + 1e-12 * np.eye(BLOCK, dtype=np.float32))
        q = np.linalg.solve(r, y.transpose(0, 2, 1)).transpose(0, 2, 1)
    values, s = np.linalg.eigh(q.transpose(0, 2, 1) @ (g @ q))
    return project(z, mean, values[:, -D:], q @ s[:, :, -D:])


def main():
    folder = sys.argv[1]
    raw = np.fromfile(folder + "/vectors.f32", dtype=np.float32).reshape(-1, DIM)
    near = np.fromfile(folder + "/neighbours.i32", dtype=np.int32).reshape(-1, K)
    ours = np.fromfile(folder + "/offsets.f32", dtype=np.float32).reshape(-1, DIM)
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 4096
    start = np.random.default_rng(1).choice(np.float32([-1, 1]), size=(K, BLOCK))
    for name, fit in (("eigh", by_eigh), ("subspace iteration", lambda *a: by_subspace(*a, start))):
        best, error = 0.0, 0.0
        for batch in (64, 256, 1024):
            begin = time.perf_counter()
            out = np.concatenate([fit(raw[i:i + batch], near[i:i + batch], raw) for i in range(0, n, batch)])
            best = max(best, n / (time.perf_counter() - begin))
            error = float(np.median(np.linalg.norm(out - ours[:n], axis=1) / np.linalg.norm(out, axis=1)))
        print(f"numpy, {name}: {best:.0f} points/s (best of three batch sizes), median relative difference from ours {error:.1e}")


if __name__ == "__main__":
    main()
