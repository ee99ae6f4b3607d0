"""Steps selector and layer."""
import math

import torch

import common as H
import reference as ref
import session
from dense_bench import WRONG
from session import SHAPES, Frame, Ours, Sets
from structured import BLOCK, KINDS, Scores, frequencies
from timing import Kind


def judged(rows, equal, wrong):
    return dict(lists=rows, lists_equal=equal, lists_wrong=wrong)


def selector(s, shape, batch, length):
    """Each selector by itself, beside a read of its bytes in order; the gate also with launches apart (dense_bench.py)."""
    kinds, floors, scores, apart = {}, {}, {}, {}
    for name in KINDS:
        frame = Frame(s, shape, batch, length, 1)
        frame.n = min(40, H.n_sets(Scores.bytes_of(frame, name)))
        frame.seen = sorted({0, frame.n - 1})
        scores[name] = x = Scores(frame, name)
        plan = s.lib.plan(q_heads=frame.Hq, kv_heads=frame.Hk, head_dim=frame.d, max_batch=batch, max_keys=length, dtype=s.dtype)
        if x.oracle or s.args.dtype == "float16":
            plan.prepare_select(x.real, BLOCK)
        lists = frame.per_set(x.lists)
        calls = lambda plan, lists, x=x: [lambda i=i: x.select(plan, i, *lists[i]) for i in range(frame.n)]
        kinds[name] = Kind(name, calls(plan, lists))
        if name in ("gate", "gate_project"):
            alone = s.lib.plan(q_heads=frame.Hq, kv_heads=frame.Hk, head_dim=frame.d, max_batch=batch, max_keys=length, dtype=s.dtype, programmatic=False)
            apart[name] = Kind(name + " apart", calls(alone, frame.per_set(x.lists)))
        floors[name] = s.floors.kind("floor " + name, x.all, frame.n, x.bytes, pieces=(4096, 16384), in_order=True)
    times = s.measure(list(kinds.values()) + list(apart.values()) + list(floors.values()))
    for name, kind in {**kinds, **{x.name: x for x in apart.values()}}.items():
        base = name.removesuffix(" apart")
        head = dict(selector=name, shape=shape, batch=batch, len=length, dtype=s.args.dtype, block=BLOCK, pages=s.args.pages, mb=scores[base].bytes / 1e6)
        result = judged(*scores[base].judge(kind.outs))
        floor, t = times["floor " + base], times[name]
        if result["lists_wrong"]:
            s.rows.emit(kind="wrong", what="selector", **head, **result)
            continue
        counts = torch.stack([out[1] for out in kind.outs.values()]).double()
        s.rows.emit(kind="selector", **head, **result, keep=round(counts.mean().item(), 1), floor_us=floor["us"], floor_share=floor["us"] / t["us"], **t)


class Append:
    """One token a sequence from its packed projection, before the last of a block (which stays open) or the last (which closes it), with
    gate keys and, if asked, min-max pairs."""

    def __init__(self, sets, ours, length, qkv=None, min_max=False):
        self.s, self.ours, self.length, self.freq, self.norm = sets, ours, length, frequencies(sets.d), torch.ones(sets.d)
        n, shape = sets.n, (sets.B * sets.L // 64, sets.Hk, 1, sets.d)
        new = lambda *shape: torch.randn(*shape).to(sets.dtype)
        self.lengths = torch.full((sets.B,), length, dtype=torch.int32)
        self.qkv = qkv or [new(sets.B, (sets.Hq + 2 * sets.Hk) * sets.d) for _ in range(n)]
        self.q, self.gate_q = (sets.per_set(lambda: torch.empty_like(sets.q[0])) for _ in range(2))
        self.page = {b: int(ours.table[b, (length - 1) // 64]) for b in sets.seen_rows}
        self.weights = [new(sets.Hk, 3 * sets.d, sets.d) * 0.02 for _ in range(n)]
        self.keys = [torch.zeros(shape, dtype=sets.dtype) for _ in range(n)]
        self.pool = [torch.zeros(sets.B, sets.Hk, 3, sets.d) for _ in range(n)]
        self.min_max = [torch.cat([new(*shape), new(*shape)], -1) for _ in range(n)] if min_max else None
        self.before = [x.clone() for x in self.min_max] if min_max else None

    def want(self, i, b):
        return ref.Appended(self.qkv[i][b], self.s.Hq, self.s.Hk, self.freq, self.length - 1)

    def __call__(self, i):
        z = self.s
        self.ours.plan.append(self.qkv[i], self.q[i], z.pages(z.k[i]), z.pages(z.v[i]), self.ours.table, self.lengths, gate_q=self.gate_q[i],
                              q_norm=self.norm, k_norm=self.norm, frequencies=self.freq, gate_keys=self.keys[i], gate_block=BLOCK,
                              gate_weights=self.weights[i], gate_norm=self.norm, gate_frequencies=self.freq, pool=self.pool[i],
                              min_max=self.min_max[i] if self.min_max else None, min_max_block=BLOCK if self.min_max else 0)
        return self.q[i], self.gate_q[i], *(x for b in z.seen_rows for x in self._rows(i, b))

    def _rows(self, i, b):
        return [self.s.pages(x[i])[self.page[b], :, (self.length - 1) % 64] for x in (self.s.k, self.s.v)]

    def error(self):
        """Over the first and last sets and sequences: queries, the rows of K and V, the pool, the gate key or the pairs."""
        worst = 0.0
        for i in self.s.seen:
            for b in self.s.seen_rows:
                want, (k, v) = self.want(i, b), self._rows(i, b)
                page = self.page[b]
                worst = max(worst, want.error(self.q[i][b], self.gate_q[i][b], k, v))
                # The pool began at 0 and took the same key in every replay.
                pool, key = self.pool[i][b].double(), want.gate_k.double()
                worst = max(worst, ref.rel_err(pool[:, 0], key.clamp(min=0)), ref.rel_err(pool[:, 1], key.clamp(max=0)),
                            ref.rel_err(pool[:, 2] / pool[:, 2].norm(), key / key.norm()))
                if self.length % BLOCK == 0:
                    made = ref.gate_key(self.pool[i][b], BLOCK, self.weights[i], self.freq, self.length - BLOCK)
                    worst = max(worst, ref.rel_err(self.keys[i][page, :, 0], made))
                if self.min_max:
                    low, high = self.before[i][page, :, 0].chunk(2, -1)
                    if not torch.equal(self.min_max[i][page, :, 0], torch.cat([torch.minimum(low, k), torch.maximum(high, k)], -1)):
                        return math.inf
        return worst


class Step:
    """A selector and attention over what it chose, behind append or without it."""

    def __init__(self, sets, ours, scores, append=None):
        self.sets, self.ours, self.scores, self.append = sets, ours, scores, append
        self.lists = sets.per_set(scores.lists)
        self.out = sets.per_set(lambda: torch.empty_like(sets.q[0]))

    def __call__(self, i):
        wrote = self.append(i) if self.append else ()
        lengths = self.append.lengths if self.append else None
        self.scores.select(self.ours.plan, i, *self.lists[i], lengths=lengths, q=self.append.gate_q[i] if self.append else None)
        self.ours(i, blocks=(*self.lists[i], BLOCK), lengths=lengths, q=self.append.q[i] if self.append else None, out=self.out[i])
        return self.out[i], *self.lists[i], *wrote

    def error(self):
        worst, z = self.append.error() if self.append else 0.0, self.sets
        length = self.append.length if self.append else z.L
        for i in z.seen:
            for b in z.seen_rows:
                mask = ref.block_mask(self.lists[i][0][b], self.lists[i][1][b], self.scores.blocks).repeat_interleave(BLOCK, 1)
                mask[:, length:] = False
                q = self.append.q[i][b] if self.append else z.q[i][b]
                worst = max(worst, ref.rel_err(self.out[i][b], ref.attention(q, *z.rows(i, b, self.ours.table), [mask])[0]))
        return worst, judged(*self.scores.judge(self.lists, length, self.append.gate_q if self.append else None))


def layer(s, shape, batch, length):
    """Selector and attention together, as a decode step runs them; from the packed projection of the token with append before them; append
    alone. The token is the one before the last of a block where it says nothing else."""
    sets = Sets(s, shape, batch, length, share=0.1)
    ours = Ours(s, sets)
    steps = {}
    for name in ("gate", "gate_project", "gate_threshold", "resa", "quest"):
        steps[name] = Step(sets, ours, Scores(sets, name, None if name.startswith("gate") and name != "gate_project" else sets.q))
    steps["gate apart"] = Step(sets, Ours(s, sets, programmatic=False), Scores(sets, "gate"))
    append = Append(sets, ours, length - 1)
    gate_q = [torch.stack([append.want(i, b).gate_q for b in range(batch)]) for i in range(sets.n)]
    steps["append_gate_project"] = Step(sets, ours, Scores(sets, "gate_project", gate_q), append)
    # Those of one position write the same token.
    appends = {"append": Append(sets, ours, length - 1, append.qkv), "append_pairs": Append(sets, ours, length - 1, append.qkv, min_max=True),
               "append_last": Append(sets, ours, length)}
    kinds = {name: Kind(name, [lambda i=i, step=step: step(i) for i in range(sets.n)]) for name, step in {**steps, **appends}.items()}
    peers = session.dense_peers(s, sets)
    floors, attended = {}, 4 * BLOCK * sets.d
    for name, step in steps.items():
        step(0)
        count = int(torch.where(step.lists[0][1] < 0, step.scores.blocks, step.lists[0][1]).sum())
        floors[name] = s.floors.kind("floor " + name, sets.all, sets.n, count * attended + step.scores.bytes)
    times = s.measure(peers + list(kinds.values()) + list(floors.values()))
    wrong = session.errors(sets, peers, None)
    best = min((times[p.name]["us"], p.name) for p in peers if wrong[p.name] < WRONG)
    head = dict(shape=shape, batch=batch, len=length, dtype=s.args.dtype, pages=s.args.pages)
    for p in peers:
        s.rows.emit(kind="dense_beside", peer=p.name, **head, err=wrong[p.name], **times[p.name])
    for name, step in steps.items():
        err, lists = step.error()
        if lists["lists_wrong"] or not err < WRONG:
            s.rows.emit(kind="wrong", what="layer", selector=name, **head, err=err, **lists)
            continue
        t, floor = times[name], times["floor " + name]
        counts = torch.stack([step.lists[i][1] for i in sets.seen]).double()
        s.rows.emit(kind="layer", selector=name, **head, keep=round(counts.mean().item(), 1), err=err, **lists, floor_us=floor["us"], floor_share=floor["us"] / t["us"], dense_us=best[0],
                    dense_peer=best[1], speedup=best[0] / t["us"], **t)
    for name, x in appends.items():
        err = x.error()
        s.rows.emit(kind="append" if err < WRONG else "wrong", what=name, **head, err=err, **(times[name] if err < WRONG else {}))
