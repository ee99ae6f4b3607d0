"""Our decode kernels and selectors beside the peers and the read floor, on the same buffers in one process.

    python3 attention_bench.py dense --lib liblectern_attention_c.so --peers-dir <peers/gpu> --out dense.jsonl

Steps: check, roofs, dense, sparse, selector, layer. Timing is common.time_graph of the peers' harness: a CUDA graph of 20 calls or
more (fewer where one takes over 1.5 ms) over rotated buffers of more than 5x L2 (cold), the median of --repeats replays, or of as many as
half a second holds. The kinds of a cell are timed one after the other, not in turns: dense times ours before the peers; sparse and layer
time the dense peers first, over 20 replays. The floor of a cell is the fastest pure-read kernel at the same bytes, 16 KB a piece, of the
same process, over 15 replays. Page tables are in order.

Checked, in a call before the timed ones: dense and sparse outputs against fp64 (first and last sequence); of layer the attention over
whatever ids came out (first sequence); ids of the plain gate alone. Not checked here: the other selectors' ids, what append writes, and
what the replays wrote. Ids: random in sparse; the selector's own in layer, over structured gate keys."""
import argparse, json, math, os, sys, time
import torch

SHAPES = {"32/8d128": (32, 8, 128), "64/8d128": (64, 8, 128), "14/2d64": (14, 2, 64), "12/2d128": (12, 2, 128)}


def parse():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("step")
    p.add_argument("--lib", required=True)
    p.add_argument("--peers-dir", required=True)
    p.add_argument("--out")
    p.add_argument("--shapes", default=",".join(SHAPES))
    p.add_argument("--batches", default="1,8,16")
    p.add_argument("--lens", default="8192,32768,131072,262144")
    p.add_argument("--peers", default="sdpa_cudnn")
    p.add_argument("--variants", default="", help="more plans beside the default, as min_units:max_parts:programmatic;...")
    p.add_argument("--blocks", default="64")
    p.add_argument("--sparsity", default="0.9")
    p.add_argument("--repeats", type=int, default=50)
    p.add_argument("--limit-s", type=float, default=420)
    p.add_argument("--commit", default="")
    p.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16"], help="of the dense and sparse steps")
    p.add_argument("--no-floor", action="store_true", help="without the read floor, whose search takes most of a short run")
    return p.parse_args()


A = parse()
sys.path.insert(0, A.peers_dir)
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.argv = sys.argv[:1]
import common as H  # noqa: E402
import peers as P  # noqa: E402
import roofs as R  # noqa: E402
import lectern_attention as LA  # noqa: E402

LIB = LA.Library(os.path.abspath(A.lib))
SINK = H.Sink("attention_bench:" + A.step, A.out)
T0 = time.time()
DTYPE = getattr(torch, A.dtype)
if A.commit:
    SINK.emit(kind="commit", commit=A.commit)


def out_of_time():
    return time.time() - T0 > A.limit_s


_pool = None
_floors = {}


def floor_us(bytes_touched, repeats=15, in_order=False):
    """The fastest gather of 16 KB pieces that reads this many bytes, once a process: (us, pieces a CTA, warps)."""
    if A.no_floor:
        return None
    key = (bytes_touched, in_order)
    if key not in _floors:
        _floors[key] = search_floor(bytes_touched, repeats, in_order)
    return _floors[key]


def search_floor(bytes_touched, repeats, in_order):
    global _pool
    if _pool is None:
        _pool = (torch.randint(-2**31, 2**31 - 1, (2**30,), dtype=torch.int32, device="cuda"), torch.empty(1 << 20, dtype=torch.int32, device="cuda"))
    x, out = _pool
    nb = x.numel() * 4 // 16384
    cnt = max(1, min(bytes_touched // 16384, nb // 2))
    sets = min(80, max(2, -(-H.L2_COLD_BYTES // (cnt * 16384))))
    perm = (torch.arange if in_order else torch.randperm)(nb, device="cuda").to(torch.int32)
    best = None
    for per in (1, 2, 4, 8, 16):
        g = cnt // per
        if g < 1 or (cnt * 16384 > 5e7 and per < 4):
            continue
        ids = [perm[(i * cnt) % max(1, nb - cnt):][:g * per].contiguous() for i in range(sets)]
        for w in (4, 8):
            t = H.time_graph([lambda i=i: R._gather[(g,)](x, i, out, per, WORDS=4096, num_warps=w) for i in ids], repeats=repeats)
            us = t["us"] * bytes_touched / (g * per * 16384)
            if best is None or us < best[0]:
                best = (us, per, w)
    return best


class Ours:
    """A dense plan behind the peers' interface: pages of 64 tokens."""
    layout, page = "pages", 64

    def __init__(self, s, name="lectern", **k):
        self.s, self.name = s, name
        self.plan = LIB.plan(q_heads=s.Hq, kv_heads=s.Hk, head_dim=s.d, max_batch=s.B, max_keys=s.L, dtype=s.dtype, **k)
        self.table = torch.arange(s.B * s.L // 64, dtype=torch.int32, device="cuda").view(s.B, -1)
        self.lengths = torch.full((s.B,), s.L, dtype=torch.int32, device="cuda")
        self.out = torch.empty_like(s.q[0])

    def __call__(self, i, blocks=None, lengths=None):
        s = self.s
        lengths = self.lengths if lengths is None else lengths
        return self.plan.decode(s.q[i], s.pages(s.k[i], 64), s.pages(s.v[i], 64), self.table, lengths, self.out, blocks=blocks)


def variants():
    for v in filter(None, A.variants.split(";")):
        a = v.split(":")
        yield v, dict(min_units=int(a[0]), max_parts=int(a[1]), programmatic=bool(int(a[2])))


def check():
    """A quick cover against fp64 before anything is timed: ragged lengths, shuffled pages, NaN behind the last key."""
    torch.manual_seed(2)
    worst = 0.0
    for Hq, Hk, d in ((32, 8, 128), (64, 8, 128), (14, 2, 64), (12, 2, 128), (8, 8, 128), (16, 1, 128), (5, 1, 64)):
        for lens in ((1,), (15,), (16,), (17,), (63, 64, 65), (1000, 1, 0, 4097), (8192,), (30000, 7, 12345)):
            B, pages = len(lens), sum(-(-x // 64) for x in lens) + 3
            k = torch.full((pages, Hk, 64, d), float("nan"), device="cuda", dtype=torch.bfloat16)
            v = k.clone()
            perm = torch.randperm(pages, device="cuda").to(torch.int32)
            table = torch.full((B, 512), 0, dtype=torch.int32, device="cuda")
            at, rows = 0, []
            for b, n in enumerate(lens):
                m = -(-n // 64)
                table[b, :m] = perm[at:at + m]
                kk, vv = torch.randn(Hk, n, d, device="cuda").bfloat16(), torch.randn(Hk, n, d, device="cuda").bfloat16()
                for j in range(m):
                    c = min(64, n - 64 * j)
                    k[perm[at + j], :, :c] = kk[:, 64 * j:64 * j + c]
                    v[perm[at + j], :, :c] = vv[:, 64 * j:64 * j + c]
                rows.append((kk, vv))
                at += m
            q = torch.randn(B, Hq, d, device="cuda").bfloat16()
            lengths = torch.tensor(lens, dtype=torch.int32, device="cuda")
            nb = 512 * 64 // 64
            for name, kw in [("default", {}), ("chunk", dict(fixed_chunk_keys=1024)), ("ptx80", dict(form=1))]:
                try:
                    plan = LIB.plan(q_heads=Hq, kv_heads=Hk, head_dim=d, max_batch=B, max_keys=32768, **kw)
                except RuntimeError:
                    continue
                for sparse in (False, True):
                    out = torch.full_like(q, float("nan"))
                    lse = torch.full((B, Hq), float("nan"), device="cuda")
                    blocks, seen = None, None
                    if sparse:
                        ids = torch.full((B, Hk, nb), -1, dtype=torch.int32, device="cuda")
                        counts = torch.zeros(B, Hk, dtype=torch.int32, device="cuda")
                        seen = []
                        for b, n in enumerate(lens):
                            m = -(-n // 64)
                            keep = torch.rand(Hk, m, device="cuda") < 0.4
                            if m:
                                keep[:, -1] = True
                                keep[0, :] = keep[0, :] & (b != 1)  # one head with nothing
                            for h in range(Hk):
                                x = keep[h].nonzero().flatten().to(torch.int32)
                                ids[b, h, :x.numel()] = x
                                counts[b, h] = x.numel()
                            seen.append(keep.repeat_interleave(64, 1)[:, :n])
                        blocks = (ids, counts, 64)
                    plan.decode(q, k, v, table, lengths, out, lse=lse, blocks=blocks)
                    again = torch.empty_like(out)
                    for _ in range(3):
                        plan.decode(q, k, v, table, lengths, again, blocks=blocks)
                    torch.cuda.synchronize()
                    assert torch.equal(out, again), (Hq, Hk, d, lens, name, sparse, "runs differ")
                    for b, n in enumerate(lens):
                        if n == 0:
                            assert torch.equal(out[b], torch.zeros_like(out[b])) and bool((lse[b] == -math.inf).all())
                            continue
                        kk, vv = rows[b]
                        for h in range(Hk):
                            g = Hq // Hk
                            x = q[b, h * g:(h + 1) * g].double() @ kk[h].double().T / math.sqrt(d)
                            if sparse:
                                x = x.masked_fill(~seen[b][h][None], -math.inf)
                                if not bool(seen[b][h].any()):
                                    assert torch.equal(out[b, h * g:(h + 1) * g], torch.zeros_like(out[b, :g]))
                                    continue
                            ref = torch.softmax(x, -1) @ vv[h].double()
                            e = (out[b, h * g:(h + 1) * g].double() - ref).abs().max().item()
                            l = (lse[b, h * g:(h + 1) * g].double() - torch.logsumexp(x, -1)).abs().max().item()
                            if not (e < 2e-2 and l < 2e-3):
                                SINK.emit(kind="wrong", shape=[Hq, Hk, d], lens=lens, plan=name, sparse=sparse, row=b, head=h, err=e, lse_err=l)
                                raise SystemExit(1)
                            worst = max(worst, e)
    SINK.emit(kind="check", worst_abs_err=worst)


def dense():
    for B in map(int, A.batches.split(",")):
        for sh in A.shapes.split(","):
            Hq, Hk, d = SHAPES[sh]
            for L in map(int, A.lens.split(",")):
                kv = 4 * B * Hk * L * d
                if kv > 18e9 or out_of_time():
                    continue
                s = P.Sets(B, Hq, Hk, d, L, H.n_sets(kv, 38e9, kv), dtype=DTYPE)
                fl = floor_us(kv)
                if fl:
                    SINK.emit(kind="floor", shape=sh, batch=B, len=L, us=fl[0], gbs=kv / fl[0] / 1e3)
                cells = [("lectern", lambda: Ours(s))] + [("lectern:" + n, lambda k=k: Ours(s, **k)) for n, k in variants()]
                cells += P.dense_peers(s, A.peers.split(","))
                for name, make in cells:
                    def go():
                        r = P.check_and_time(SINK, make(), s, repeats=A.repeats)
                        us = r.get("us")
                        SINK.emit(kind="dense", peer=name, shape=sh, batch=B, len=L, dtype=A.dtype, mb=kv / 1e6, gbs=kv / us / 1e3 if us else None,
                                  floor_share=fl[0] / us if us and fl else None, **r)
                    H.guarded(SINK, name, go, shape=sh, batch=B, len=L)
                del s
                torch.cuda.empty_cache()


def gate_set(B, Hq, Hk, d, L, block, sets, project):
    nb = L // block
    out = []
    for _ in range(sets):
        kg = torch.randn(B * L // 64, Hk, 64 // min(64, block), d, device="cuda").bfloat16()
        q = torch.randn(B, Hq if project else Hk, d, device="cuda").bfloat16()
        w = (torch.randn(Hk, Hq // Hk * d, d, device="cuda") * 0.02).bfloat16() if project else None
        out.append((q, kg, w))
    return out, nb


def torch_gate(q, kg, keep):
    """Top `keep` of our rule: block 0 and the last in, the rest by score, ties to the lower id."""
    B, Hk, d = q.shape
    z = torch.einsum("bhd,bnhd->bhn", q.double(), kg.view(B, -1, Hk, d).double()) / math.sqrt(d)
    z[..., 0] = z[..., -1] = math.inf
    order = torch.sort(z, dim=-1, descending=True, stable=True)[1][..., :keep]
    return order.sort(-1)[0].to(torch.int32), z


def selector():
    block = 64
    for B in map(int, A.batches.split(",")):
        for sh in A.shapes.split(","):
            Hq, Hk, d = SHAPES[sh]
            for L in map(int, A.lens.split(",")):
                if out_of_time():
                    continue
                nb = L // block
                keep = math.ceil(nb * 0.1 - 1e-9)
                table = torch.arange(B * L // 64, dtype=torch.int32, device="cuda").view(B, -1)
                lengths = torch.full((B,), L, dtype=torch.int32, device="cuda")
                ids, counts = torch.empty(B, Hk, keep, dtype=torch.int32, device="cuda"), torch.empty(B, Hk, dtype=torch.int32, device="cuda")
                freq = (1e6 ** (-torch.arange(d // 2, device="cuda").float() * 2 / d)).contiguous()
                norm = torch.ones(d, device="cuda")
                for pdl in (True, False):
                    plan = LIB.plan(q_heads=Hq, kv_heads=Hk, head_dim=d, max_batch=B, max_keys=L, programmatic=pdl)
                    for kind in ("gate", "gate_project", "gate_threshold", "resa", "quest", "quest_heads", "oracle"):
                        project, oracle = kind == "gate_project", kind == "oracle"
                        pairs = kind in ("resa", "quest", "quest_heads")
                        if (pairs or oracle) and not pdl:
                            continue
                        row = (block if oracle else 2 if pairs else 1) * d * 2
                        by = B * Hk * nb * row + (Hk * (Hq // Hk) * d * d * 2 if project else 0)
                        sets = min(40, max(2, -(-H.L2_COLD_BYTES // by)))
                        if pairs:
                            data = []
                            for _ in range(sets):
                                x, y = torch.randn(B * L // 64, Hk, 1, d, device="cuda"), torch.randn(B * L // 64, Hk, 1, d, device="cuda")
                                data.append((torch.randn(B, Hq, d, device="cuda").bfloat16(), torch.cat([torch.minimum(x, y), torch.maximum(x, y)], -1).bfloat16(), None))
                        elif oracle:
                            plan.prepare_select(kind, block)
                            data = [(torch.randn(B, Hq, d, device="cuda").bfloat16(), torch.randn(B * L // 64, Hk, 64, d, device="cuda", dtype=torch.bfloat16), None)
                                    for _ in range(min(sets, max(1, int(8e9 / by))))]
                            sets = len(data)
                        else:
                            data, _ = gate_set(B, Hq, Hk, d, L, block, sets, project)
                        mode = dict(mode="threshold", threshold=2e-3 * 8192 / L) if kind == "gate_threshold" else dict(mode="ratio", ratio_per_mille=100)
                        real = "gate" if kind == "gate_threshold" else kind
                        cap = nb if kind == "gate_threshold" else min(nb, keep * (Hq // Hk)) if kind == "quest_heads" else keep
                        ids = torch.empty(B, Hk, cap, dtype=torch.int32, device="cuda")

                        def call(i):
                            q, kg, w = data[i]
                            plan.select(real, q, kg, table, lengths, ids, counts, block, gate_weights=w, gate_norm=norm if project else None,
                                        frequencies=freq if project else None, first_blocks=0 if pairs or oracle else 1, **mode)

                        def go():
                            call(0)
                            torch.cuda.synchronize()
                            ok = None
                            if kind == "gate":
                                ref, z = torch_gate(data[0][0], data[0][1], keep)
                                ok = float((ids == ref).float().mean())
                            t = H.time_graph([lambda i=i: call(i) for i in range(sets)], repeats=A.repeats)
                            SINK.emit(kind="selector", selector=kind, shape=sh, batch=B, len=L, block=block, programmatic=pdl, mb=by / 1e6, ids_equal=ok,
                                      mean_count=counts.float().mean().item(), **t)
                        H.guarded(SINK, kind, go, batch=B, len=L)
                        del data
                        torch.cuda.empty_cache()


def random_ids(B, Hk, nb, keep, sets):
    out = []
    for _ in range(sets):
        r = torch.rand(B, Hk, nb, device="cuda")
        r[..., -1] = 2
        out.append(torch.topk(r, keep, dim=-1)[1].sort(dim=-1)[0].to(torch.int32).contiguous())
    return out


def sparse():
    import yard as Y
    for B in map(int, A.batches.split(",")):
        for sh in A.shapes.split(","):
            Hq, Hk, d = SHAPES[sh]
            for L in map(int, A.lens.split(",")):
                kv = 4 * B * Hk * L * d
                if out_of_time() or kv > 18e9:
                    continue
                s = P.Sets(B, Hq, Hk, d, L, H.n_sets(kv * 0.1, 36e9, kv), dtype=DTYPE)
                best = None
                for name, make in P.dense_peers(s, A.peers.split(",")):
                    r = H.guarded(SINK, name, lambda: P.check_and_time(SINK, make(), s, repeats=20), batch=B, len=L)
                    if r and r.get("us") and (best is None or r["us"] < best[0]):
                        best = (r["us"], name)
                if best:
                    SINK.emit(kind="dense_best", shape=sh, batch=B, len=L, us=best[0], peer=best[1])
                for block in map(int, A.blocks.split(",")):
                    for sp in map(float, A.sparsity.split(",")):
                        nb = L // block
                        keep = max(1, math.ceil(nb * (1 - sp) - 1e-9))
                        by = 4 * B * Hk * keep * block * d
                        fl = floor_us(by)
                        if fl:
                            SINK.emit(kind="floor", shape=sh, batch=B, len=L, block=block, sparsity=sp, us=fl[0], gbs=by / fl[0] / 1e3, mb=by / 1e6)
                        ids = random_ids(B, Hk, nb, keep, s.n)
                        counts = torch.full((B, Hk), keep, dtype=torch.int32, device="cuda")
                        for name, make in [("lectern", lambda: Ours(s))] + [("lectern:" + n, lambda k=k: Ours(s, **k)) for n, k in variants()]:
                            def go():
                                o = make()
                                f = lambda i: o(i, blocks=(ids[i], counts, block))
                                got = f(0)
                                err = 0.0
                                for b in sorted({0, B - 1}):
                                    t = torch.zeros(Hk, nb, dtype=torch.bool, device="cuda")
                                    t.scatter_(1, ids[0][b].long(), True)
                                    err = max(err, H.rel_err(got[b], s.ref(0, b, "pages", 64, t.repeat_interleave(block, 1))))
                                if not err < 1e-2:
                                    SINK.emit(kind="wrong", peer=name, shape=sh, batch=B, len=L, block=block, err=err)
                                    return
                                t = H.time_graph([lambda i=i: f(i) for i in range(s.n)], repeats=A.repeats)
                                hot = H.time_graph([lambda: f(0)], repeats=A.repeats)["us"]
                                SINK.emit(kind="sparse", peer=name, shape=sh, batch=B, len=L, dtype=A.dtype, block=block, sparsity=sp, keep=keep, mb=by / 1e6, err=err,
                                          gbs=by / t["us"] / 1e3, floor_share=fl[0] / t["us"] if fl else None, speedup=best[0] / t["us"] if best else None, hot_us=hot, **t)
                            H.guarded(SINK, name, go, batch=B, len=L)
                del s
                torch.cuda.empty_cache()


def structured_gate(B, Hk, d, L, q):
    """Gate keys whose scores drift with the position, are alike in runs of three, and for one head stand out in one block only."""
    nb = L // 64
    base = torch.randn(B, -(-nb // 3), Hk, d, device="cuda").repeat_interleave(3, 1)[:, :nb]
    drift = torch.linspace(0, 1, nb, device="cuda").view(1, nb, 1, 1) * q.view(B, 1, Hk, d).float() * 0.3
    kg = base + drift
    kg[:, nb // 2, 0] = q[:, 0].float() * 4
    return kg.view(B * nb, Hk, 1, d).bfloat16().contiguous()


def layer():
    """Selector and attention together, as a decode step runs them: from the gate's query, from the un-rotated queries, and with
    append before them (from the packed projection; the token before the last of a block). Append alone: that token, and the last."""
    for B in map(int, A.batches.split(",")):
        for sh in A.shapes.split(","):
            Hq, Hk, d = SHAPES[sh]
            for L in map(int, A.lens.split(",")):
                kv = 4 * B * Hk * L * d
                if out_of_time() or kv > 18e9:
                    continue
                s = P.Sets(B, Hq, Hk, d, L, H.n_sets(kv * 0.1, 36e9, kv))
                best = None
                for name, make in P.dense_peers(s, A.peers.split(",")):
                    r = H.guarded(SINK, name, lambda: P.check_and_time(SINK, make(), s, repeats=20), batch=B, len=L)
                    if r and r.get("us") and (best is None or r["us"] < best[0]):
                        best = (r["us"], name)
                nb = L // 64
                keep = math.ceil(nb * 0.1 - 1e-9)
                freq = (1e6 ** (-torch.arange(d // 2, device="cuda").float() * 2 / d)).contiguous()
                norm = torch.ones(d, device="cuda")
                gq = [torch.randn(B, Hk, d, device="cuda").bfloat16() for _ in range(s.n)]
                kg = [structured_gate(B, Hk, d, L, x) for x in gq]
                weights = [(torch.randn(Hk, Hq // Hk * d, d, device="cuda") * 0.02).bfloat16() for _ in range(s.n)]
                ids = torch.empty(B, Hk, keep, dtype=torch.int32, device="cuda")
                counts = torch.empty(B, Hk, dtype=torch.int32, device="cuda")
                o = Ours(s)
                qkv = [torch.randn(B, (Hq + 2 * Hk) * d, device="cuda").bfloat16() for _ in range(s.n)]
                key_weights = [(torch.randn(Hk, 3 * d, d, device="cuda") * 0.02).bfloat16() for _ in range(s.n)]
                pool = torch.zeros(B, Hk, 3, d, device="cuda")
                gate_q = torch.empty_like(s.q[0])
                before = o.lengths - 1

                def append(i, lengths):
                    o.plan.append(qkv[i], s.q[i], s.pages(s.k[i], 64), s.pages(s.v[i], 64), o.table, lengths, gate_q=gate_q, q_norm=norm, k_norm=norm,
                                  frequencies=freq, gate_keys=kg[i], gate_block=64, gate_weights=key_weights[i], gate_norm=norm, gate_frequencies=freq,
                                  pool=pool)
                for kind in ("gate", "gate_project", "append_gate_project", "append", "append_last"):
                    def call(i):
                        if kind in ("append", "append_last"):
                            return append(i, before if kind == "append" else o.lengths)
                        if kind == "append_gate_project":
                            append(i, before)
                            o.plan.select("gate_project", gate_q, kg[i], o.table, before, ids, counts, 64, mode="ratio", ratio_per_mille=100,
                                          gate_weights=weights[i], gate_norm=norm, frequencies=freq)
                            return o(i, blocks=(ids, counts, 64), lengths=before)
                        o.plan.select(kind, gq[i] if kind == "gate" else s.q[i], kg[i], o.table, o.lengths, ids, counts, 64, mode="ratio", ratio_per_mille=100,
                                      gate_weights=weights[i], gate_norm=norm, frequencies=freq)
                        return o(i, blocks=(ids, counts, 64))

                    def go():
                        got = call(0)
                        torch.cuda.synchronize()
                        err = None
                        if got is not None:
                            t = torch.zeros(Hk, nb, dtype=torch.bool, device="cuda")
                            t.scatter_(1, ids[0].long(), True)
                            seen = t.repeat_interleave(64, 1)
                            seen[:, L - 1] &= kind != "append_gate_project"
                            err = H.rel_err(got[0], s.ref(0, 0, "pages", 64, seen))
                        same = float((ids == torch_gate(gq[0], kg[0].view(B, nb, Hk, d), keep)[0]).float().mean()) if kind == "gate" else None
                        r = H.time_graph([lambda i=i: call(i) for i in range(s.n)], repeats=A.repeats)
                        SINK.emit(kind="layer", selector=kind, shape=sh, batch=B, len=L, keep=keep, err=err, ids_equal=same, dense_us=best[0] if best else None,
                                  dense_peer=best[1] if best else None, speedup=best[0] / r["us"] if best and got is not None else None, **r)
                    H.guarded(SINK, kind, go, batch=B, len=L)
                del s, kg, weights, qkv, key_weights
                torch.cuda.empty_cache()


def roofs():
    """The read floor from 2 to 1,024 MB: 16 KB pieces gathered at random, and in order."""
    for mb in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        us, per, warps = floor_us(mb * 2**20)
        SINK.emit(kind="roof", what="gather16k", mb=mb, us=us, gbs=mb * 2**20 / us / 1e3, per=per, warps=warps)
        us, per, warps = floor_us(mb * 2**20, in_order=True)
        SINK.emit(kind="roof", what="contiguous", mb=mb, us=us, gbs=mb * 2**20 / us / 1e3, per=per, warps=warps)


{"check": check, "dense": dense, "sparse": sparse, "selector": selector, "layer": layer, "roofs": roofs}[A.step]()
