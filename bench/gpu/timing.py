"""Times of calls in turns, and the read floor.

    kinds = [Kind("lectern", [lambda i=i: ours(i) for i in range(sets)]), Kind("peer", ...)]
    times = in_turns(kinds, repeats=50)      # name -> {"us", "p10_us", "p90_us", "instances", "sets", "repeats"}

A kind is a CUDA graph of its calls over rotated buffer sets: 20 calls, fewer (at least 4) where that takes over 5 ms, more where under 0.4 ms. The graphs
of a cell are replayed in turns, one a round, every replay between two events; the time of a call is the median over the rounds.
The buffers of a kind exceed 5x L2 (cold); a hot kind has one set. A short replay follows an untimed one of its own graph: the processor
is then busy while the host submits what is timed. The rule is that of the peers' common.py, whose timer takes one kind after the other.
"""
import math
from dataclasses import dataclass, field

import torch

import common as H
import roofs as R

LONG_US, SETTLED_US = 5000, 2500  # of a replay


@dataclass
class Kind:
    name: str
    calls: list                # one a buffer set; they return what they wrote
    hot: bool = False
    scale: float = 1.0         # of its time: a floor may read a little less than asked for
    graph: object = None
    settle: bool = True        # an untimed replay before each timed one
    instances: int = 0
    outs: dict = field(default_factory=dict)  # set to what its last call returned, of the first and the last set

    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is compiled or created at a first call
            for call in self.calls[:2]:
                call()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self._record(1)
        us = self.probe(2) / self.instances
        want = max(min(20, max(4, math.ceil(LONG_US / us))), math.ceil(400 / us))
        if self.instances < want:
            self._record(math.ceil(want / len(self.calls)))
        self.settle = self.hot or us * self.instances < SETTLED_US

    def _record(self, passes):
        self.instances = passes * len(self.calls)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for _ in range(passes):
                for i, call in enumerate(self.calls):
                    out = call()  # the memory of the others is used again, as a model's would be
                    if i in (0, len(self.calls) - 1):
                        self.outs[i] = out

    def probe(self, replays):
        """Shortest of a few replays, us."""
        times = []
        for _ in range(replays):
            a, b = torch.cuda.Event(True), torch.cuda.Event(True)
            a.record()
            self.graph.replay()
            b.record()
            b.synchronize()
            times.append(a.elapsed_time(b) * 1000)
        return max(1e-3, min(times))


def in_turns(kinds, repeats):
    """Outputs are NaN before the timed rounds: what is checked afterwards is what the replays wrote."""
    for kind in kinds:
        kind.capture()
    events = {kind.name: [] for kind in kinds}
    for kind in kinds:
        for out in kind.outs.values():
            for x in out if isinstance(out, tuple) else (out,):
                if x is not None:
                    x.fill_(math.nan if x.is_floating_point() else -7)
    for i in range(3 + repeats):
        for kind in kinds:
            if kind.settle:
                kind.graph.replay()
            a, b = torch.cuda.Event(True), torch.cuda.Event(True)
            a.record()
            kind.graph.replay()
            b.record()
            if i >= 3:
                events[kind.name].append((a, b))
    torch.cuda.synchronize()
    mhz = H.sm_mhz()
    times = {}
    for kind in kinds:
        us = sorted(a.elapsed_time(b) * 1000 / kind.instances * kind.scale for a, b in events[kind.name])
        at = lambda share: us[min(len(us) - 1, int(share * len(us)))]
        times[kind.name] = {"us": at(.5), "p10_us": at(.1), "p90_us": at(.9), "instances": kind.instances, "sets": len(kind.calls), "repeats": len(us), "sm_mhz": mhz}
    return times


class Floors:
    """The fastest of the peers' pure-read kernels at given bytes: pieces out of the cell's own buffers, at random or in order, some pieces a
    CTA. The search is made once a process for the same bytes, pieces and order."""

    def __init__(self):
        self.found = {}
        self.out = torch.empty(1 << 22, dtype=torch.int32)

    def kind(self, name, buffers, sets, bytes_read, pieces=(16384,), in_order=False):
        """buffers: one tensor that holds all sets, one behind the other. pieces: sizes to try, in bytes."""
        x = buffers.view(-1).view(torch.int32)
        ids = {}

        def make(piece, per, warps):
            a_set = x.numel() * 4 // sets // piece
            count = min(bytes_read // piece, a_set)
            if piece not in ids:
                ids[piece] = [((torch.arange(count) if in_order else torch.randperm(a_set)[:count]) + i * a_set).to(torch.int32) for i in range(sets)]
            grid = count // per

            def call(i):
                R._gather[(grid,)](x, ids[piece][i], self.out, per, WORDS=piece // 4, num_warps=warps)
            return Kind(name, [lambda i=i: call(i) for i in range(sets)], scale=bytes_read / (grid * per * piece))
        key = (bytes_read, pieces, in_order)
        if key not in self.found:
            candidates = [(piece, per, warps) for piece in pieces for per, warps in self._candidates(bytes_read // piece, piece)]
            self.found[key] = min(candidates, key=lambda c: self._quick(make(*c)))
        return make(*self.found[key])

    @staticmethod
    def _candidates(count, piece):
        pers = {1, 2, 4, 8, 16, count // 1056, count // 528, count // 264}
        few = [per for per in sorted(pers) if 1 <= per <= count and count // per <= 20000]
        return [(per, warps) for per in few for warps in ((4, 8) if piece >= 16384 else (2, 4))]

    @staticmethod
    def _quick(kind):
        for call in kind.calls[:2]:
            call()
        torch.cuda.synchronize()
        kind._record(max(1, 8 // len(kind.calls)))
        return kind.probe(4) / kind.instances * kind.scale
