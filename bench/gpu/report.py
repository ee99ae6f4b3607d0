#!/usr/bin/env python3
"""Tables of the rows that attention_bench.py wrote, a section a device: report.py [--device NAME] [--check PAGE] FILE...

--check: exit code 1 where PAGE is not what would be printed."""
import argparse
import json
import sys

import bars

HOW = """Made by `bench/gpu/report.py bench/results/gpu_h100.jsonl`; rows by `scripts/gpu_check.sh roofs dense sparse selector`. A time is the median of %s
replays of a CUDA graph over rotated buffers of more than 5x L2 (cold), in turns with the peers and the reads of its cell, on the same buffers in one
process; what the replays wrote was then held to fp64, first and last buffer set and sequence: %d rows, %d wrong. *Floor*: the fastest plain read of the same
bytes in the process; of dense cells the better of 16 KB at random and in order, of lists pieces of a block (16 KB at most) at random, of
selectors in order. Pages are in order except where said. Hot: one buffer set, again and again.
Calls are launched programmatically: one asks for what it reads first while the one before ends. Apart: without that."""
OLD = """
†: %d rows of commit %s, from before calls took turns: medians of %d to %d replays, one kind after the other, outputs held to fp64 in a call before them,
the floor 16 KB at random alone; `scripts/gpu_check.sh` times these cells too (dense at batch 8 and 16, sparse at batch 4 and 8)."""

FIELDS = ("kind", "peer", "selector", "what", "shape", "batch", "len", "dtype", "block", "sparsity", "ids", "pages", "mb", "piece")


def load(paths, device=None):
    """device: its rows, the last one of each call (a call is FIELDS; `mb` where nothing else names it)."""
    rows, machines, machine = {}, {}, None
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for r in map(json.loads, lines):
                if r["kind"] == "env":
                    machine = r
                if "device" not in r or device not in (None, r["device"]):
                    continue
                if r["kind"] == "run":
                    machines[r["device"]] = machine
                elif r["kind"] not in ("env", "cell"):
                    key = tuple(r.get(f) for f in FIELDS[:-2]) + ((r["mb"], r.get("piece")) if r["kind"] in ("roof", "floor") else ())
                    rows.setdefault(r["device"], {})[key] = r
    return {name: Table(list(r.values()), machines.get(name, {})) for name, r in rows.items()}


class Table:
    def __init__(self, rows, machine):
        self.rows, self.machine = [r for r in rows if r.get("pages") != "random"], machine
        self.at_random = [r for r in rows if r.get("pages") == "random"]

    def all(self, **where):
        return [r for r in self.rows if all(r.get(k) == v for k, v in where.items())]

    def one(self, **where):
        found = self.all(**where)
        return found[0] if found else None


def kilo(n):
    return "%dK" % (n // 1024)


def us(x):
    return "-" if x is None else "%.1f" % x if x < 1000 else "{:,.0f}".format(x)


def run(values, form=us):
    return " / ".join(form(v) for v in values)


def get(row, name):
    return row.get(name) if row else None


def old(*rows):
    return any(r and r.get("repeats", bars.REPLAYS) < bars.REPLAYS for r in rows)


def mark(*rows):
    return " †" if old(*rows) else ""


def ratio(x):
    return "-" if x is None else "%.2f" % x if x >= 1.1 or x < .9 else "%.3f" % x


def table(title, head, body):
    if body:
        yield "\n## %s\n\n| %s |\n|%s" % (title, " | ".join(head), " --- |" * len(head))
        for line in body:
            yield "| %s |" % " | ".join(line)


def values(rows, name):
    return sorted({r[name] for r in rows if name in r})


def dense(t, dtype):
    rows = t.all(kind="dense", dtype=dtype)
    body = []
    for shape in dict.fromkeys(r["shape"] for r in rows):
        for batch in values([r for r in rows if r["shape"] == shape], "batch"):
            lens = values([r for r in rows if r["shape"] == shape and r["batch"] == batch], "len")
            at = lambda peer: [t.one(kind="dense", dtype=dtype, shape=shape, batch=batch, len=n, peer=peer) for n in lens]
            ours, peer, apart = at("lectern"), at("sdpa_cudnn"), at("lectern apart")
            body.append(["%s, batch %d, %s" % (shape.replace("d", " d"), batch, run((kilo(n) + mark(r) for n, r in zip(lens, ours)), str)), run(get(r, "us") for r in ours), run(get(r, "us") for r in apart), run(get(r, "floor_us") for r in ours),
                         run(get(r, "us") for r in peer), run((get(r, "speedup") for r in ours), ratio)])
    return table("Dense, %s" % dtype, ["", "us", "apart", "floor", "cuDNN", "peer / ours"], body)


def layout(t):
    rows = t.all(kind="layout")
    names = [n for n in dict.fromkeys(r["peer"] for r in rows) if n.startswith("lectern") and n != "lectern contiguous"]
    body = []
    for shape, batch, n in dict.fromkeys((r["shape"], r["batch"], r["len"]) for r in rows):
        at = lambda peer: get(t.one(kind="layout", shape=shape, batch=batch, len=n, peer=peer), "us")
        base = at("lectern contiguous")
        body.append(["%s, batch %d, %s" % (shape.replace("d", " d"), batch, kilo(n)), "%.2f" % base] +
                    ["%.2f (%+.1f %%)" % (at(name), 100 * (at(name) / base - 1)) if at(name) else "-" for name in names] + [us(at(name)) for name in ("sdpa_cudnn", "floor in order", "floor at random")])
    return table("Pages and chunks, us", ["", "contiguous"] + ["in order" if x == "lectern" else x[8:] for x in names] + ["cuDNN", "read in order", "read at random"], body)


def roofs(t):
    body = [[us(r["mb"]), us(r["us"]), "{:,.0f}".format(r["gbs"]), us(c["us"]), "{:,.0f}".format(c["gbs"])]
            for r in sorted(t.all(kind="roof", what="gather16k"), key=lambda r: r["mb"]) for c in t.all(kind="roof", what="contiguous", mb=r["mb"])]
    return table("Plain reads", ["MB", "16 KB at random, us", "GB/s", "in order, us", "GB/s"], body)


def random_pages(t):
    """Sparse calls over page tables at random beside the same over pages in order, of another process; the dense peer has no pages."""
    body = []
    for r in t.at_random:
        twin = t.one(**{f: r[f] for f in FIELDS if f in r and f not in ("pages", "mb")})
        if twin and "us" in r and r["kind"] != "floor":
            body.append([" ".join(str(r[f]) for f in ("kind", "selector", "what", "ids") if f in r), "batch %d, %s" % (r["batch"], kilo(r["len"])),
                         "%.2f" % twin["us"], "%.2f (%+.1f %%)" % (r["us"], 100 * (r["us"] / twin["us"] - 1))])
    return table("Page tables at random, us", ["", "", "in order", "at random"], body)


def sparse(t, dtype):
    rows = t.all(kind="sparse", dtype=dtype)
    lens = values(rows, "len")
    body = []
    for batch in values(rows, "batch"):
        at = lambda **k: [t.one(kind="sparse", dtype=dtype, batch=batch, len=n, **k) for n in lens]
        cell = lambda r: "%s (%s; %s)" % (us(get(r, "us")), us(get(r, "floor_us")), us(get(r, "hot_us"))) if r else "-"
        cells = at(block=64, sparsity=.9, ids="random")
        body.append(["%d, 90 %%, us (floor; hot)%s" % (batch, mark(*cells))] + [cell(r) for r in cells])
        if t.all(kind="sparse", dtype=dtype, batch=batch, ids="selector"):
            body.append(["%d, 90 %%, ids of the selector, us" % batch] + [us(get(r, "us")) for r in at(ids="selector")])
            body.append(["%d, ids of a threshold, us (floor; blocks a head, mean and fewest)" % batch] +
                        ["%s (%s; %s, %d)" % (us(r["us"]), us(r["floor_us"]), us(r["keep"]), r["fewest"]) if r else "-" for r in at(ids="threshold")])
    for batch in values(rows, "batch"):
        shares = values([r for r in rows if r["block"] == 64 and r["ids"] == "random"], "sparsity")
        by = [[get(t.one(kind="sparse", dtype=dtype, batch=batch, len=n, block=64, sparsity=s, ids="random"), "speedup") for s in shares] for n in lens]
        body.append(["%d, x dense at %s %%%s" % (batch, run((round(100 * s) for s in shares), str), mark(*t.all(kind="sparse", dtype=dtype, batch=batch)))] + [run(x, ratio) for x in by])
    yield from table("Block-sparse alone, 64/8 d128, blocks of 64, %s" % dtype, ["batch"] + [kilo(n) for n in lens], body)
    body = []
    for batch in values(rows, "batch"):
        for sparsity in (.5, .9):
            for block in (16, 32, 128):
                pairs = [[t.one(kind="sparse", dtype=dtype, batch=batch, len=n, block=b, sparsity=sparsity, ids="random") for b in (block, 64)] for n in lens]
                if any(a for a, _ in pairs):
                    body.append(["%d, %d %%, blocks of %d" % (batch, round(100 * sparsity), block)] +
                                ["%s (%.2f)" % (us(a["us"]), a["gbs"] / b["gbs"]) if a and b else "-" for a, b in pairs])
    yield from table("Other blocks, us (bytes a second against blocks of 64)", ["batch"] + [kilo(n) for n in lens], body)


def selectors(t):
    rows = t.all(kind="selector")
    names = list(dict.fromkeys(r["selector"] for r in rows))
    for batch in values(rows, "batch"):
        lens = values(rows, "len")
        at = lambda name, n: t.one(kind="selector", selector=name, batch=batch, len=n)
        yield from table("Selectors, batch %d: us (floor; times the floor)" % batch, [""] + [kilo(n) for n in lens],
              [[name] + ["%s (%s; %.1f)" % (us(r["us"]), us(r["floor_us"]), r["us"] / r["floor_us"]) if r else "-" for r in (at(name, n) for n in lens)] for name in names])
    rows = t.all(kind="layer")
    names = list(dict.fromkeys(r["selector"] for r in rows))
    for batch in values(rows, "batch"):
        lens = values(rows, "len")
        at = lambda name, n: t.one(kind="layer", selector=name, batch=batch, len=n)
        body = [[name] + ["%s (%s; %s)" % (us(r["us"]), us(r["floor_us"]), ratio(r["speedup"])) if r else "-" for r in (at(name, n) for n in lens)] for name in names]
        for what in dict.fromkeys(r["what"] for r in t.all(kind="append", batch=batch)):
            body.append(["%s alone" % what] + [us(get(t.one(kind="append", what=what, batch=batch, len=n), "us")) for n in lens])
        body.append(["dense peer"] + [us(get(t.one(kind="dense_beside", batch=batch, len=n), "us")) for n in lens])
        yield from table("Select and attend, batch %d: us (floor; x dense)" % batch, [""] + [kilo(n) for n in lens], body)


def missed(t):
    all_bars = list(bars.all_bars(t))
    yield from table("Bars: %d, of which missed" % len(all_bars), ["", "bar", "read"], [[b.name, b.bar, b.read] for b in all_bars if not b.met])


def page(t, device):
    m = t.machine
    wrong = sum(r["kind"] in ("wrong", "error") for r in t.rows + t.at_random)
    current, before = [r for r in t.rows + t.at_random if not old(r)], [r for r in t.rows if old(r)]
    yield "# %s: attention" % device
    yield "\nDriver %s, CUDA %s, torch %s, cuDNN %s, Triton %s; SM %s MHz while timed, memory %s MHz. Commit %s.\n" % (
        m.get("driver"), m.get("cuda"), m.get("torch"), m.get("cudnn"), m.get("triton"), run(values(t.rows, "sm_mhz"), str), m.get("mem_mhz"),
        run(values(current, "commit"), str))
    yield HOW % (run(values(current, "repeats"), str), len(current), wrong)
    if before:
        repeats = values(before, "repeats")
        yield OLD % (len(before), run(values(before, "commit"), str), repeats[0], repeats[-1])
    yield from missed(t)
    yield from dense(t, "bfloat16")
    yield from layout(t)
    yield from dense(t, "float16")
    for dtype in ("bfloat16", "float16"):
        yield from sparse(t, dtype)
    yield from selectors(t)
    yield from random_pages(t)
    yield from roofs(t)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="its rows only")
    parser.add_argument("--check", metavar="PAGE")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    text = "".join(line + "\n" for device, t in load(args.files, args.device).items() for line in page(t, device))
    if not args.check:
        print(text, end="")
        return
    with open(args.check, encoding="utf-8") as old:
        if old.read() != text:
            sys.exit("%s is not what report.py makes of %s" % (args.check, " ".join(args.files)))


if __name__ == "__main__":
    main()
