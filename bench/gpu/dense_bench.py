"""Steps roofs, dense and layout."""
import torch

import common as H
import session
from session import Ours, Sets
from timing import Kind

WRONG = 1e-2  # relative error at which a call has no time


def roof(s, mb):
    """Plain reads: 16 KB pieces at random places, and pieces in order."""
    size = mb * 2**20
    sets = H.n_sets(size, hi=80)
    buffers = torch.randint(-2**31, 2**31 - 1, (sets * size // 4,), dtype=torch.int32)
    kinds = [s.floors.kind("gather16k", buffers, sets, size), s.floors.kind("contiguous", buffers, sets, size, pieces=(4096, 16384), in_order=True)]
    for name, t in s.measure(kinds).items():
        s.rows.emit(kind="roof", what=name, mb=size / 1e6, gbs=size / t["us"] / 1e3, **t)


def roofs(s):
    for mb in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        s.cell("%d MB" % mb, roof, mb)


def emit_dense(s, kind, sets, times, errors, **more):
    floor = min(t["us"] for name, t in times.items() if name.startswith("floor"))
    peers = [t["us"] for name, t in times.items() if name in s.args.peers.split(",") and errors[name] < WRONG]
    for name, t in times.items():
        head = dict(kind=kind, peer=name, shape=sets.shape, batch=sets.B, len=sets.L, dtype=s.args.dtype, mb=sets.kv_bytes / 1e6)
        if not errors.get(name, 0) < WRONG:
            s.rows.emit(**{**head, "kind": "wrong"}, err=errors[name])
            continue
        ours = name.startswith("lectern")
        if name.startswith("floor"):
            s.rows.emit(**head, gbs=sets.kv_bytes / t["us"] / 1e3, **t)
            continue
        s.rows.emit(**head, **more.get(name, {}), gbs=sets.kv_bytes / t["us"] / 1e3, floor_us=floor, floor_share=floor / t["us"], speedup=min(peers) / t["us"] if ours and peers else None,
                    err=errors.get(name), **t)


def floors(s, sets):
    """Reads of all K and V: pieces of 16 KB, a page of a head at d = 128, at random and in order."""
    return [s.floors.kind("floor at random", sets.all, sets.n, sets.kv_bytes), s.floors.kind("floor in order", sets.all, sets.n, sets.kv_bytes, in_order=True)]


def dense(s, shape, batch, length):
    """Decode over all keys, the dense peers and the floor, in turns; and with launches apart, each of which begins when the one before has ended."""
    sets = Sets(s, shape, batch, length, cap_bytes=38e9)
    ours, apart = Ours(s, sets), Ours(s, sets, programmatic=False)
    mine = [Kind(name, [lambda i=i, call=call: call(i) for i in range(sets.n)]) for name, call in (("lectern", ours), ("lectern apart", apart))]
    peers = session.dense_peers(s, sets)
    times = s.measure(mine + peers + floors(s, sets))
    wrong = {**session.errors(sets, mine, ours.table), **session.errors(sets, peers, None)}
    emit_dense(s, "dense", sets, times, wrong, lectern={"pages": s.args.pages})


def layout(s, shape, batch, length):
    """The same plan over pages in order, at random, and over one run of memory a head (what the peer reads); chunks of fixed keys; and the
    peers' own timer."""
    sets = Sets(s, shape, batch, length, cap_bytes=38e9)
    plans = {"lectern": (Ours(s, sets, sets.in_order), sets.in_order), "lectern random pages": (Ours(s, sets, sets.random), sets.random),
             "lectern contiguous": (Ours(s, sets, sets.in_contiguous(), sets.contiguous), None)}
    for keys in map(int, s.args.chunks.split(",")):
        plans["lectern chunks of %d" % keys] = (Ours(s, sets, sets.in_order, fixed_chunk_keys=keys), sets.in_order)
    mine = {name: Kind(name, [lambda i=i, plan=plan: plan(i) for i in range(sets.n)]) for name, (plan, _) in plans.items()}
    peers = session.dense_peers(s, sets)
    times = s.measure(list(mine.values()) + peers + floors(s, sets))
    wrong = session.errors(sets, peers, None)
    for name, (_, table) in plans.items():
        wrong.update(session.errors(sets, [mine[name]], table))
    emit_dense(s, "layout", sets, times, wrong)
    ours = plans["lectern"][0]
    t = H.time_graph([lambda i=i: ours(i) for i in range(sets.n)], repeats=s.args.repeats)
    s.rows.emit(kind="timer", shape=shape, batch=batch, len=length, dtype=s.args.dtype, common_us=t["us"], us=times["lectern"]["us"])
