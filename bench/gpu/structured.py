"""Scores with structure for the selectors: blocks of 64 whose scores drift with the position, come in threes that are equal to the bit, and
for one head stand out in one block alone."""
import math

import torch

import reference as ref
from session import pieces

KINDS = ("gate", "gate_project", "gate_threshold", "resa", "quest", "quest_heads", "oracle")
BLOCK = 64


def frequencies(d):
    return (1e6 ** (-torch.arange(d // 2).float() * 2 / d)).contiguous()


def around(direction, blocks, per_block=()):
    """direction [kv_head, d] to [block, kv_head, *per_block, d]."""
    heads, d = direction.shape
    base = torch.randn(-(-blocks // 3), heads, *per_block, d).repeat_interleave(3, 0)[:blocks]
    u = direction.float().view(heads, *[1] * len(per_block), d)
    base += torch.linspace(0, 0.3, blocks).view(blocks, *[1] * (base.dim() - 1)) * u
    base[(blocks // 2, 0, *[7] * len(per_block))] = 4 * direction[0].float()
    return base


class Scores:
    """A selector's inputs for every set of a frame (session.Frame): queries [batch, q_head, d] un-rotated for gate_project, as they are for the
    others; the gate's own where it is projected already. A tenth of the blocks, or those over a threshold that keeps about as many."""

    def __init__(self, frame, kind, queries=None):
        self.f, self.kind, self.real = frame, kind, "gate" if kind == "gate_threshold" else kind
        self.pairs, self.oracle, self.project = kind in ("resa", "quest", "quest_heads"), kind == "oracle", kind == "gate_project"
        f = frame
        self.blocks = f.L // BLOCK
        self.keep = math.ceil(self.blocks * 0.1 - 1e-9)
        self.threshold = 2.5 / self.blocks if kind == "gate_threshold" else None
        self.first = 0 if self.pairs or self.oracle else 1
        group = f.Hq // f.Hk
        self.capacity = self.blocks if self.threshold else min(self.blocks, self.keep * group) if kind == "quest_heads" else self.keep
        descriptors, weights = self._shapes(f, kind)
        a_set = math.prod(descriptors) + math.prod(weights)
        self.bytes = 2 * a_set
        self.all = torch.empty(f.n * a_set, dtype=f.dtype)
        self.norm, self.freq = torch.ones(f.d), frequencies(f.d)
        self.q = queries or [torch.randn(f.B, f.Hk if self.real == "gate" else f.Hq, f.d).to(f.dtype) for _ in range(f.n)]
        self.descriptors, self.weights = [], []
        for i in range(f.n):
            x, w = pieces(self.all[i * a_set:(i + 1) * a_set], descriptors, weights)
            self.weights.append(w.normal_(0, 0.02))
            self.descriptors.append(x)
            for b in range(f.B):
                x[f.table[b].long()] = self._blocks(i, b).to(f.dtype)

    @staticmethod
    def _shapes(f, kind):
        block = (BLOCK if kind == "oracle" else 1, f.d * (2 if kind in ("resa", "quest", "quest_heads") else 1))
        return (f.B * f.L // BLOCK, f.Hk, *block), (f.Hk, f.Hq // f.Hk * f.d, f.d) if kind == "gate_project" else (0,)

    @classmethod
    def bytes_of(cls, frame, kind):
        return 2 * sum(map(math.prod, cls._shapes(frame, kind)))

    def _direction(self, i, q, length):
        if self.real == "gate":
            return q
        if self.project:
            return ref.gate_query(q, self.weights[i], self.freq, length - 1)
        mean = q.view(self.f.Hk, -1, self.f.d).float().mean(1)
        return mean / mean.norm(dim=-1, keepdim=True) * math.sqrt(self.f.d)

    def _blocks(self, i, b):
        centre = around(self._direction(i, self.q[i][b], self.f.L), self.blocks, (BLOCK,) if self.oracle else ())
        if not self.pairs:
            return centre if self.oracle else centre[:, :, None]
        half = torch.rand(-(-self.blocks // 3), self.f.Hk, self.f.d).repeat_interleave(3, 0)[:self.blocks]
        return torch.cat([centre - half, centre + half], -1)[:, :, None]

    def lists(self):
        return torch.empty(self.f.B, self.f.Hk, self.capacity, dtype=torch.int32), torch.empty(self.f.B, self.f.Hk, dtype=torch.int32)

    def select(self, plan, i, ids, counts, lengths=None, q=None):
        mode = dict(mode="threshold", threshold=self.threshold) if self.threshold else dict(mode="ratio", ratio_per_mille=100)
        plan.select(self.real, self.q[i] if q is None else q, self.descriptors[i], self.f.table, self.f.lengths if lengths is None else lengths, ids, counts, BLOCK,
                    gate_weights=self.weights[i] if self.project else None, gate_norm=self.norm if self.project else None,
                    frequencies=self.freq if self.project else None, first_blocks=self.first, **mode)
        return ids, counts

    def truth(self, i, b, q, length):
        x = self.descriptors[i][self.f.table[b].long()]
        heads, group = self.f.Hk, self.f.Hq // self.f.Hk
        scored = self.blocks if self.pairs or self.oracle else length // BLOCK
        if self.oracle:
            z = ref.oracle_scores(q, x.transpose(0, 1).reshape(heads, -1, self.f.d), BLOCK)
        elif self.kind == "resa":
            z = ref.pair_scores(q.double().view(heads, group, -1).mean(1, keepdim=True), x[:, :, 0])[:, 0] / math.sqrt(self.f.d)
        elif self.pairs:
            z = ref.pair_scores(q.view(heads, group, -1), x[:, :, 0])
            z = z.reshape(heads * group, -1) if self.kind == "quest_heads" else z.amax(1)
        else:
            z = ref.gate_scores(self._direction(i, q, length), x[:, :, 0])
        choice = ref.Choice(z, scored, self.first, 1, self.keep, self.threshold)
        return choice.union(group) if self.kind == "quest_heads" else choice

    def judge(self, lists, length=None, q=None):
        """lists: (ids, counts) by set. (rows looked at, equal to the truth, wrong), of the frame's first and last sets and sequences."""
        rows = equal = wrong = 0
        for i in self.f.seen:
            for b in self.f.seen_rows:
                truth = self.truth(i, b, (q or self.q)[i][b], length or self.f.L)
                e, w = truth.judge(ref.block_mask(lists[i][0][b], lists[i][1][b], self.blocks))
                rows, equal, wrong = rows + self.f.Hk, equal + e, wrong + w
        return rows, equal, wrong
