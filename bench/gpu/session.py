"""What the steps share: arguments, rows and cells already there, buffer sets, our plans and the dense peers."""
import argparse
import gc
import json
import math
import os
import time
import traceback

import torch

import common as H
import lectern_attention as LA
import peers as P
import reference as ref
import timing

SHAPES = {"32/8d128": (32, 8, 128), "64/8d128": (64, 8, 128), "14/2d64": (14, 2, 64), "12/2d128": (12, 2, 128)}


def parser(description):
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("step")
    p.add_argument("--lib", required=True, help="liblectern_attention_c.so")
    p.add_argument("--peers-dir", required=True, help="the folder of common.py, peers.py and roofs.py")
    p.add_argument("--out", help="JSON lines are appended; cells that it has of this commit, device and arguments are skipped")
    p.add_argument("--shapes", default=",".join(SHAPES))
    p.add_argument("--batches", default="1,8,16")
    p.add_argument("--lens", default="8192,32768,131072,262144")
    p.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16"])
    p.add_argument("--peers", default="sdpa_cudnn", help="dense ones; the fastest of a cell counts")
    p.add_argument("--pages", default="order", choices=["order", "random"], help="the order of a page table")
    p.add_argument("--lists", default="64:0.5,64:0.7,64:0.8,64:0.9,16:0.5,16:0.9,32:0.5,32:0.9,128:0.5,128:0.9", help="of the sparse step, block:sparsity")
    p.add_argument("--chunks", default="512,1024,4096", help="of the layout step: keys of a fixed chunk")
    p.add_argument("--repeats", type=int, default=50, help="replays a median is of")
    p.add_argument("--limit-s", type=float, default=420, help="no cell is begun after this")
    p.add_argument("--commit", default="")
    p.add_argument("--seed", type=int, default=1)
    return p


class Rows(H.Sink):
    """A row names its device, commit and the arguments it was made with."""
    base, wrong = {}, 0

    def emit(self, **row):
        self.wrong += row["kind"] in ("wrong", "error")
        super().emit(**{k: v for k, v in {**row, **self.base}.items() if v is not None})


class Session:
    def __init__(self, args):
        torch.manual_seed(args.seed)
        self.args, self.t0, self.stopped = args, time.time(), False
        self.dtype = getattr(torch, args.dtype)
        self.lib = LA.Library(os.path.abspath(args.lib))
        self.floors = timing.Floors()
        self.device = torch.cuda.get_device_name()
        self.done = set()
        if args.out and os.path.exists(args.out):
            with open(args.out, encoding="utf-8") as lines:
                self.done = {self._key(r) for r in map(json.loads, lines) if r["kind"] == "cell"}
        self.rows = Rows("attention_bench:" + args.step, args.out)
        self.rows.base = {"device": self.device, "commit": args.commit, "run": int(self.t0)}
        self.rows.emit(kind="run", args={k: v for k, v in vars(args).items() if k not in ("lib", "peers_dir", "out", "commit")})

    @staticmethod
    def _key(r):
        return r["step"], r["cell"], r["dtype"], r.get("lists", ""), r["pages"], r["commit"], r["device"]

    def cells(self, do, largest=18e9):
        """do(session, shape, batch, length) for each cell that is left, until the time is over."""
        a = self.args
        for batch in map(int, a.batches.split(",")):
            for shape in a.shapes.split(","):
                q_heads, kv_heads, d = SHAPES[shape]
                for length in map(int, a.lens.split(",")):
                    if 4 * batch * kv_heads * length * d <= largest:
                        self.cell("%s batch %d keys %d" % (shape, batch, length), do, shape, batch, length)

    def cell(self, name, do, *what):
        a = self.args
        mark = {"step": a.step, "cell": name, "dtype": a.dtype, "lists": a.lists if a.step == "sparse" else "", "pages": a.pages}
        if self._key({**mark, "commit": a.commit, "device": self.device}) in self.done:
            return
        if self.stopped or time.time() - self.t0 > a.limit_s:
            self.stopped = True
            return
        began = time.time()
        try:
            do(self, *what)
        except Exception:
            self.rows.emit(kind="error", **mark, error=traceback.format_exc()[-600:])
            return
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        self.rows.emit(kind="cell", **mark, seconds=round(time.time() - began, 2))

    def measure(self, kinds):
        return timing.in_turns(kinds, self.args.repeats)


def pieces(total, *shapes):
    """Tensors of these shapes cut out of one that is `total` elements long, one behind the other."""
    at, out = 0, []
    for shape in shapes:
        n = math.prod(shape)
        out.append(total[at:at + n].view(shape))
        at += n
    return out


class Frame:
    """A cell's shape, page table and lengths, for `n` buffer sets; which sets and sequences are looked at."""

    def __init__(self, s, shape, batch, length, n):
        self.Hq, self.Hk, self.d = SHAPES[shape]
        self.shape, self.B, self.L, self.n, self.dtype = shape, batch, length, n, s.dtype
        self.lengths = torch.full((batch,), length, dtype=torch.int32)
        self.in_order = torch.arange(batch * length // 64, dtype=torch.int32).view(batch, -1)
        self.random = torch.randperm(batch * length // 64).to(torch.int32).view(batch, -1)
        self.table = self.random if s.args.pages == "random" else self.in_order
        self.seen, self.seen_rows = sorted({0, n - 1}), sorted({0, batch - 1})

    def per_set(self, make):
        """A buffer of its own for the sets that are looked at, one for all others, as a model reuses it."""
        shared = make()
        return [make() if i in self.seen else shared for i in range(self.n)]


class Sets(Frame):
    """Buffer sets of queries, K and V; all K and V lie in one tensor, which the floor reads. What peers.Sets offers the dense peers."""

    def __init__(self, s, shape, batch, length, share=1.0, cap_bytes=36e9):
        _, kv_heads, d = SHAPES[shape]
        half = batch * kv_heads * length * d
        self.kv_bytes = 4 * half
        super().__init__(s, shape, batch, length, H.n_sets(self.kv_bytes * share, cap_bytes, self.kv_bytes, hi=80))
        self.all = torch.empty(self.n * 2 * half, dtype=s.dtype)
        self.k, self.v, self.q = [], [], []
        for i in range(self.n):
            k, v = pieces(self.all[2 * half * i:2 * half * (i + 1)], (half,), (half,))
            self.k.append(k.normal_())
            self.v.append(v.normal_())
            self.q.append(torch.randn(batch, self.Hq, d).to(s.dtype))

    def bhld(self, t):
        return t.view(self.B, self.Hk, self.L, self.d)

    def pages(self, t):
        return t.view(self.B * self.L // 64, self.Hk, 64, self.d)

    def contiguous(self, t):
        """The memory of bhld() as pages: those of a head follow each other. With in_contiguous() for its table."""
        pages = (self.B - 1) * self.Hk * self.L // 64 + self.L // 64
        return t.as_strided((pages, self.Hk, 64, self.d), (64 * self.d, self.L * self.d, self.d, 1), t.storage_offset())

    def in_contiguous(self):
        return (torch.arange(self.B)[:, None] * (self.Hk * self.L // 64) + torch.arange(self.L // 64)[None]).to(torch.int32).contiguous()

    def rows(self, i, b, table=None):
        """K and V of a sequence, [kv_head, key, d]; table None: as bhld() lays them."""
        if table is None:
            return self.bhld(self.k[i])[b], self.bhld(self.v[i])[b]
        at = table[b].long()
        return [self.pages(t)[at].transpose(0, 1).reshape(self.Hk, self.L, self.d) for t in (self.k[i], self.v[i])]


class Ours:
    """A plan over a cell's sets, as Plan() makes it."""

    def __init__(self, s, sets, table=None, view=None, **plan):
        self.sets = sets
        self.plan = s.lib.plan(q_heads=sets.Hq, kv_heads=sets.Hk, head_dim=sets.d, max_batch=sets.B, max_keys=sets.L, dtype=sets.dtype, **plan)
        self.table, self.view = sets.table if table is None else table, view or sets.pages
        self.out = sets.per_set(lambda: torch.empty_like(sets.q[0]))

    def __call__(self, i, blocks=None, lengths=None, q=None, out=None):
        z = self.sets
        return self.plan.decode(z.q[i] if q is None else q, self.view(z.k[i]), self.view(z.v[i]), self.table, z.lengths if lengths is None else lengths,
                                self.out[i] if out is None else out, blocks=blocks)


def dense_peers(s, sets):
    kinds = []
    for name, make in P.dense_peers(sets, s.args.peers.split(",")):
        peer = make()
        kinds.append(timing.Kind(name, [lambda i=i, peer=peer: peer(i) for i in range(sets.n)]))
    return kinds


def errors(sets, kinds, table):
    """Name to the largest relative error of what the replays of a dense call wrote, over the sets and rows that are looked at. kinds: of
    calls over all keys; table None: the cache as the peers lay it."""
    worst = {kind.name: 0.0 for kind in kinds}
    for i in sets.seen:
        for b in sets.seen_rows:
            want = ref.attention(sets.q[i][b], *sets.rows(i, b, table), [None])[0]
            for kind in kinds:
                worst[kind.name] = max(worst[kind.name], ref.rel_err(kind.outs[i][b], want))
    return worst
