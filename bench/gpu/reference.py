"""What the timed calls are held to, in fp64: attention over masks of keys, choices of blocks, and what append writes."""
import math

import torch


def attention(q, k, v, masks):
    """q [q_head, d]; k, v [kv_head, key, d]; masks: bool [kv_head, key], or None for all. One [q_head, d] a mask; an empty row is 0."""
    heads, group = k.shape[0], q.shape[0] // k.shape[0]
    outs = [torch.empty(q.shape, dtype=torch.float64) for _ in masks]
    for h in range(heads):
        rows = slice(h * group, (h + 1) * group)
        score = q[rows].double() @ k[h].double().T / math.sqrt(q.shape[1])
        value = v[h].double()
        for out, mask in zip(outs, masks):
            x = score if mask is None else score.masked_fill(~mask[h][None], -math.inf)
            out[rows] = 0 if mask is not None and not bool(mask[h].any()) else torch.softmax(x, -1) @ value
    return outs


def block_mask(ids, counts, num_blocks):
    """ids [kv_head, capacity], counts [kv_head] (-1: all) to bool [kv_head, block]. Lists must ascend."""
    mask = torch.zeros(ids.shape[0], num_blocks, dtype=torch.bool)
    for h, n in enumerate(counts.tolist()):
        if n < 0:
            mask[h] = True
            continue
        x = ids[h, :n].long()
        if n and not (bool((x[1:] > x[:-1]).all()) and int(x[0]) >= 0 and int(x[-1]) < num_blocks):
            raise AssertionError("a list does not ascend within the blocks")
        mask[h, x] = True
    return mask


class Choice:
    """The blocks that scores z [.., block] select, and those that fp32 may choose otherwise: within `near` of the last one in."""

    def __init__(self, z, scored, first, last, keep=None, threshold=None):
        blocks = z.shape[-1]
        forced = (torch.arange(blocks) < first) | (torch.arange(blocks) >= blocks - last)
        open_ = (torch.arange(blocks) < scored) & ~forced
        near = 1e-5 * z[..., :scored].abs().amax(-1, keepdim=True) + 2e-5
        if threshold is not None:
            cut = math.log(threshold) + torch.logsumexp(z[..., :scored], -1, keepdim=True)
            best = z > cut
        else:
            need = max(0, min(keep - int(forced.sum()), int(open_.sum())))
            order = torch.sort(z.masked_fill(~open_, -math.inf), dim=-1, descending=True, stable=True)[1][..., :need]
            best = torch.zeros_like(z, dtype=torch.bool).scatter_(-1, order, True)
            cut = torch.gather(z, -1, order[..., -1:]) if need else torch.full_like(z[..., :1], math.inf)
        self.mask = forced | (best & open_)
        unsure = ((z - cut).abs() <= near) & open_
        # Exact ties alone are no excuse: the lower block wins them.
        unsure &= (unsure & (z != cut)).any(-1, keepdim=True)
        self.least, self.most = self.mask & ~unsure, self.mask | unsure

    def union(self, group):
        """Heads of a group choose by themselves and the row reads what any of them chose."""
        for name in ("mask", "least", "most"):
            x = getattr(self, name)
            setattr(self, name, x.view(-1, group, x.shape[-1]).any(1))
        return self

    def judge(self, got):
        """(rows equal to this choice, rows that are neither equal nor differ by near-ties alone)."""
        equal = (got == self.mask).all(-1)
        fair = (got | ~self.least).all(-1) & (~got | self.most).all(-1)
        return int(equal.sum()), int((~equal & ~fair).sum())


def rotate(x, frequencies, position):
    """Half-split rotation of [.., d], fp64."""
    angle = position * frequencies.double()
    a, b = x.double().chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def rms_norm(x, eps=1e-6):
    x = x.double()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def gate_query(q, weights, frequencies, position):
    """q [q_head, d] un-rotated, weights [kv_head, group * d, d] to [kv_head, d]."""
    heads = weights.shape[0]
    u = q.double().view(heads, 1, -1)
    return rotate(rms_norm((u @ weights.double())[:, 0]), frequencies, position)


def gate_scores(query, keys):
    """query [kv_head, d], keys [block, kv_head, d] to [kv_head, block]. Sums go row by row: equal keys get equal scores."""
    return (query.double()[:, None] * keys.double().transpose(0, 1)).sum(-1) / math.sqrt(query.shape[-1])


def pair_scores(query, pairs):
    """query [kv_head, head, d], pairs [block, kv_head, 2 d] to [kv_head, head, block]: the bound on any product in the block."""
    low, high = pairs.double().transpose(0, 1).chunk(2, -1)
    return torch.stack([torch.maximum(query[:, g:g + 1].double() * low, query[:, g:g + 1].double() * high).sum(-1) for g in range(query.shape[1])], 1)


def oracle_scores(q, keys, block):
    """q [q_head, d], keys [kv_head, key, d] to [kv_head, block]: log of the block's largest probability, over the group."""
    heads = keys.shape[0]
    z = torch.stack([q.view(heads, -1, q.shape[-1])[h].double() @ keys[h].double().T for h in range(heads)]) / math.sqrt(q.shape[-1])
    return (z - torch.logsumexp(z, -1, keepdim=True)).view(heads, -1, z.shape[-1] // block, block).amax((1, 3))


def rel_err(x, ref):
    x, ref = x.double(), ref.double()
    e = ((x - ref).norm() / ref.norm()).item()
    return e if math.isfinite(e) else math.inf


class Appended:
    """What append makes of qkv [(q_heads + 2 kv_heads) * d]: un-rotated and rotated queries and key, and the value."""

    def __init__(self, qkv, q_heads, kv_heads, frequencies, position):
        d = frequencies.numel() * 2
        q, k, v = qkv.view(-1, d).split([q_heads, kv_heads, kv_heads])
        self.gate_q, self.gate_k = rms_norm(q).to(qkv.dtype), rms_norm(k).to(qkv.dtype)
        self.q, self.k, self.v = rotate(self.gate_q, frequencies, position), rotate(self.gate_k, frequencies, position), v

    def error(self, q, gate_q, k, v):
        """The largest relative error; a value that is not the same bits is infinite."""
        if not torch.equal(v, self.v):
            return math.inf
        return max(rel_err(a, b) for a, b in ((q, self.q), (gate_q, self.gate_q), (k, self.k)))


def gate_key(pool, block, weights, frequencies, position):
    """pool [kv_head, 3, d] (max, min, sum), weights [kv_head, 3 d, d] to the key of the closed block, [kv_head, d]."""
    x = pool.double().clone()
    x[:, 2] /= block
    return rotate(rms_norm((x.view(x.shape[0], 1, -1) @ weights.double())[:, 0]), frequencies, position)
