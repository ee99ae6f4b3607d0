"""Step sparse: attention over given blocks alone."""
import math

import torch

import reference as ref
import session
import structured
from dense_bench import WRONG
from session import Ours, Sets
from timing import Kind


def random_lists(sets, block, keep):
    """Of every set: ascending ids, the last block always in."""
    lists = []
    for _ in range(sets.n):
        r = torch.rand(sets.B, sets.Hk, sets.L // block)
        r[..., -1] = 2
        ids = torch.topk(r, keep, dim=-1)[1].sort(dim=-1)[0].to(torch.int32).contiguous()
        lists.append((ids, torch.full((sets.B, sets.Hk), keep, dtype=torch.int32), block))
    return lists


def chosen_lists(s, sets, ours, kind):
    """What the selector makes of structured scores, run just before."""
    scores = structured.Scores(sets, kind)
    lists = [scores.lists() for _ in range(sets.n)]
    for i in range(sets.n):
        scores.select(ours.plan, i, *lists[i])
    return [(*x, 64) for x in lists]


def check(sets, table, kinds):
    """kinds: name to (Kind, lists). Name to the largest relative error of what the replays wrote."""
    worst = dict.fromkeys(kinds, 0.0)
    for i in sets.seen:
        for b in sets.seen_rows:
            masks = []
            for kind, lists in kinds.values():
                ids, counts, block = lists[i]
                masks.append(ref.block_mask(ids[b], counts[b], sets.L // block).repeat_interleave(block, 1))
            for (name, (kind, _)), want in zip(kinds.items(), ref.attention(sets.q[i][b], *sets.rows(i, b, table), masks)):
                worst[name] = max(worst[name], ref.rel_err(kind.outs[i][b], want))
    return worst


def sparse(s, shape, batch, length):
    """Shares of the blocks from random lists, cold and hot; at 90 % in blocks of 64 also from lists that the gate's selector chose,
    by ratio and by threshold (uneven lists; one head keeps one block and the forced ones)."""
    sets = Sets(s, shape, batch, length, share=0.1)
    ours = Ours(s, sets)
    cases = {}  # name: (lists, block, sparsity, where ids come from)
    for block, sparsity in (x.split(":") for x in s.args.lists.split(",")):
        keep = max(1, math.ceil(length // int(block) * (1 - float(sparsity)) - 1e-9))
        cases["%s at %s" % (block, sparsity)] = (random_lists(sets, int(block), keep), int(block), float(sparsity), "random")
    if s.args.dtype == "bfloat16" and "64:0.9" in s.args.lists:
        cases["chosen"] = (chosen_lists(s, sets, ours, "gate"), 64, 0.9, "selector")
        cases["threshold"] = (chosen_lists(s, sets, ours, "gate_threshold"), 64, None, "threshold")
    kinds, floors, facts = {}, {}, {}
    for name, (lists, block, sparsity, source) in cases.items():
        outs = sets.per_set(lambda: torch.empty_like(sets.q[0]))
        calls = [lambda i=i, lists=lists, outs=outs: ours(i, blocks=lists[i], out=outs[i]) for i in range(sets.n)]
        kinds[name] = (Kind(name, calls), lists)
        if block == 64 and source == "random":
            hot = torch.empty_like(sets.q[0])
            kinds[name + " hot"] = (Kind(name + " hot", [lambda lists=lists, hot=hot: ours(0, blocks=lists[0], out=hot)], hot=True), lists)
        counts = torch.stack([torch.where(x[1] < 0, length // block, x[1]) for x in lists]).double()
        size = int(counts.sum().item() / sets.n) * 4 * block * sets.d
        piece = min(16384, block * sets.d * 2)
        key = "floor %d %d" % (size, piece)
        if key not in floors:
            floors[key] = s.floors.kind(key, sets.all, sets.n, size, pieces=(piece,))
        facts[name] = dict(block=block, sparsity=sparsity, ids=source, keep=round(counts.mean().item(), 1), mb=size / 1e6, key=key,
                           fewest=int(counts.min().item()) if source != "random" else None)
    peers = session.dense_peers(s, sets)
    times = s.measure(peers + [kind for kind, _ in kinds.values()] + list(floors.values()))
    wrong = session.errors(sets, peers, None)
    best = min((times[p.name]["us"], p.name) for p in peers if wrong[p.name] < WRONG) if peers else None
    head = dict(shape=shape, batch=batch, len=length, dtype=s.args.dtype, pages=s.args.pages)
    for p in peers:
        s.rows.emit(kind="dense_best" if p.name == best[1] else "dense_peer", peer=p.name, **head, err=wrong[p.name], **times[p.name])
    hot_of = lambda name: times.get(name + " hot", {}).get("us")
    cold = {n: k for n, k in kinds.items() if not k[0].hot}
    errs = check(sets, ours.table, cold)
    for name, (kind, _) in kinds.items():
        if kind.hot and not torch.equal(kind.outs[0], kinds[name[:-4]][0].outs[0]):  # both are of set 0
            errs[name[:-4]] = math.inf
    for name in cold:
        f = dict(facts[name])
        floor, t = times[f.pop("key")], times[name]
        if not errs[name] < WRONG:
            s.rows.emit(kind="wrong", what="sparse", **head, **f, err=errs[name])
            continue
        s.rows.emit(kind="sparse", peer="lectern", **head, **f, err=errs[name], gbs=f["mb"] * 1e3 / t["us"], floor_us=floor["us"],
                    floor_share=floor["us"] / t["us"], speedup=best[0] / t["us"] if best else None, hot_us=hot_of(name), **t)
    for key, kind in floors.items():
        _, size, piece = key.split()
        s.rows.emit(kind="floor", **head, mb=int(size) / 1e6, piece=int(piece), gbs=int(size) / times[key]["us"] / 1e3, **times[key])
