#!/usr/bin/env python3
"""Do a plan's predicted bytes agree with the DRAM counters? One decode a cell under ncu, caches flushed before it.

  bytes_check.py --lib build/cuda/liblectern_attention_c.so [--out bench/results/gpu_bytes.jsonl] [--within 0.05]

Each line: cell, predicted bytes (explain()'s bytes_per_key times the keys that are read), dram__bytes_read.sum, their ratio. All
cells are larger than the L2.
Exit code 1 where a ratio is outside the bound; 3 where the counters cannot be read here.
"""
import argparse
import csv
import json
import re
import subprocess
import sys

CELLS = [  # q heads, kv heads, head dim, batch, keys, share of blocks of 64 that are attended to
    (32, 8, 128, 1, 32768, 1.0), (32, 8, 128, 16, 32768, 1.0), (64, 8, 128, 8, 32768, 1.0), (14, 2, 64, 1, 131072, 1.0), (14, 2, 64, 16, 131072, 1.0),
    (12, 2, 128, 1, 131072, 1.0), (64, 8, 128, 16, 32768, 0.1), (64, 8, 128, 16, 131072, 0.1),
]


def inner(lib, q_heads, kv_heads, d, batch, keys, share):
    import os
    import torch
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from lectern_attention import Library
    torch.manual_seed(1)
    plan = Library(lib).plan(q_heads=q_heads, kv_heads=kv_heads, head_dim=d, max_batch=batch, max_keys=keys)
    pages = batch * keys // 64
    k = torch.randn(pages, kv_heads, 64, d, device="cuda", dtype=torch.bfloat16)
    v = torch.randn(pages, kv_heads, 64, d, device="cuda", dtype=torch.bfloat16)
    q = torch.randn(batch, q_heads, d, device="cuda").bfloat16()
    table = torch.randperm(pages, device="cuda").to(torch.int32).view(batch, -1)
    lengths = torch.full((batch,), keys, dtype=torch.int32, device="cuda")
    out, blocks, read = torch.empty_like(q), None, keys
    if share < 1:
        keep = int(keys // 64 * share)
        ids = torch.stack([torch.randperm(keys // 64, device="cuda")[:keep].sort().values for _ in range(batch * kv_heads)])
        blocks = (ids.to(torch.int32).view(batch, kv_heads, keep), torch.full((batch, kv_heads), keep, dtype=torch.int32, device="cuda"), 64)
        read = keep * 64
    for _ in range(2):  # the second is what ncu reads
        plan.decode(q, k, v, table, lengths, out, blocks=blocks)
        torch.cuda.synchronize()
    a_key = int(re.search(r"bytes_per_key (\d+)", plan.explain()).group(1))
    print("PREDICTED", a_key * read * batch, torch.cuda.get_device_name(), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True)
    parser.add_argument("--out")
    parser.add_argument("--within", type=float, default=0.05)
    parser.add_argument("--commit", default="")
    parser.add_argument("--inner", nargs=6)
    args = parser.parse_args()
    if args.inner:
        *whole, share = args.inner
        return inner(args.lib, *map(int, whole), float(share))
    bad = read_any = 0
    for cell in CELLS:
        done = subprocess.run(["ncu", "--clock-control", "none", "--csv", "--print-units", "base", "-k", "regex:(?i)decode", "-s", "1", "-c", "1",
                               "--metrics", "dram__bytes_read.sum,dram__bytes_write.sum", sys.executable, __file__, "--lib", args.lib, "--inner",
                               *map(str, cell)], capture_output=True, text=True)
        predicted = re.search(r"^PREDICTED (\d+) (.*)$", done.stdout, re.M)
        rows = {r["Metric Name"]: r for r in csv.DictReader(line for line in done.stdout.splitlines() if line.startswith('"'))}
        if not predicted or "dram__bytes_read.sum" not in rows:
            print("no counters for", cell, (done.stdout + done.stderr)[-400:], file=sys.stderr)
            continue
        read_any += 1
        value = lambda name: float(rows[name]["Metric Value"].replace(",", ""))
        ratio = value("dram__bytes_read.sum") / int(predicted.group(1))
        bad += abs(ratio - 1) > args.within
        line = json.dumps({"kind": "bytes", "device": predicted.group(2), "commit": args.commit, "shape": "%d/%dd%d" % cell[:3], "batch": cell[3], "len": cell[4],
                           "share": cell[5], "predicted": int(predicted.group(1)), "dram_read": value("dram__bytes_read.sum"),
                           "dram_write": value("dram__bytes_write.sum"), "ratio": round(ratio, 4), "kernel": rows["dram__bytes_read.sum"]["Kernel Name"][:60]})
        print(line, flush=True)
        if args.out:
            with open(args.out, "a", encoding="utf-8") as out:
                out.write(line + "\n")
    sys.exit(3 if not read_any else 1 if bad else 0)


if __name__ == "__main__":
    main()
