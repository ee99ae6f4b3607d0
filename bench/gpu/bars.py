"""What cells were meant to reach, held against a device's rows (report.Table)."""
from dataclasses import dataclass

REPLAYS = 50  # that a median is of
US_BATCH_1 = {("32/8d128", 8192): 15.5, ("32/8d128", 32768): 50, ("14/2d64", 8192): 6.5, ("14/2d64", 32768): 10.3, ("14/2d64", 131072): 28,
              ("12/2d128", 8192): 8, ("12/2d128", 32768): 16}
SPARSE_US = {8192: 5.8, 32768: 9.8, 65536: 15, 131072: 24}                # batch 1, 90 %, blocks of 64
SPARSE_GAIN = {8192: 7.3, 32768: 8.7, 131072: 9.4}                        # batch 16
SELECT_US = {"gate": {8192: 4, 32768: 4, 131072: 6}, "gate_project": {8192: 5, 32768: 5, 131072: 7.5}}  # batch 1
LAYER_GAIN = {(1, 32768): 3.6, (1, 131072): 5.6, (16, 131072): 8.2}


@dataclass
class Bar:
    name: str
    bar: str
    read: str
    met: bool


def at_most(name, bar, value):
    return Bar(name, "<= %g" % bar, "%.2f" % value, value <= bar)


def at_least(name, bar, value):
    return Bar(name, ">= %g" % bar, "%.3f" % value, value >= bar)


def all_bars(t):
    return [*dense(t), *paging(t), *sparse(t), *selectors(t), *layers(t)]


def cell(r):
    return "%s batch %d, %dK%s" % (r["shape"], r["batch"], r["len"] // 1024, "" if r["repeats"] >= REPLAYS else " †")


def dense(t):
    for r in t.all(kind="dense", peer="lectern", dtype="bfloat16"):
        mb = r["mb"]
        yield at_least("dense %s, peer / ours" % cell(r), 1.2 if mb < 18 else 1.08 if mb < 34 else 1.0 if mb < 68 else .99, r["speedup"])
        if mb >= 256 and t.one(kind="dense", peer="floor in order", dtype=r["dtype"], shape=r["shape"], batch=r["batch"], len=r["len"]):
            yield at_least("dense %s, share of the read" % cell(r), .93 if mb < 512 else .96 if mb < 2000 else .98, r["floor_share"])
        if r["batch"] == 1 and (r["shape"], r["len"]) in US_BATCH_1:
            yield at_most("dense %s, us" % cell(r), US_BATCH_1[r["shape"], r["len"]], r["us"])
        if (r["shape"], r["batch"], r["len"]) == ("32/8d128", 1, 131072):
            yield at_least("dense %s, no slower than the peer" % cell(r), 1.0, r["speedup"])


def paging(t):
    for base in t.all(kind="layout", peer="lectern contiguous"):
        for name in ("lectern", "lectern random pages"):
            r = t.one(kind="layout", peer=name, shape=base["shape"], batch=base["batch"], len=base["len"])
            yield at_most("pages %s over contiguous, %s, %%" % ("in order" if name == "lectern" else "at random", cell(r)), 1, 100 * (r["us"] / base["us"] - 1))


def sparse(t):
    for ids in ("random", "selector"):
        for r in t.all(kind="sparse", dtype="bfloat16", block=64, sparsity=.9, ids=ids):
            if r["batch"] == 1 and r["len"] in SPARSE_US:
                yield at_most("block-sparse alone %s, %s ids, us" % (cell(r), ids), SPARSE_US[r["len"]], r["us"])
            if r["batch"] == 16 and r["len"] in SPARSE_GAIN:
                yield at_least("block-sparse alone %s, %s ids, x dense" % (cell(r), ids), SPARSE_GAIN[r["len"]], r["speedup"])


def selectors(t):
    for r in t.all(kind="selector"):
        name = r["selector"]
        if r["batch"] == 1 and r["len"] in SELECT_US.get(name, {}):
            yield at_most("%s %s, us" % (name, cell(r)), SELECT_US[name][r["len"]], r["us"])
        if (r["batch"], r["len"]) == (16, 131072) and name in SELECT_US:
            yield at_most("%s %s, us" % (name, cell(r)), 30, r["us"])
        if name in ("quest", "resa"):
            yield at_most("%s %s, times its floor" % (name, cell(r)), 1.3, r["us"] / r["floor_us"])
        if name == "gate_threshold":
            yield at_most("threshold against ratio, %s, us" % cell(r), t.one(kind="selector", selector="gate", batch=r["batch"], len=r["len"])["us"], r["us"])


def layers(t):
    for r in t.all(kind="layer"):
        if r["selector"] in ("gate", "gate_project") and (r["batch"], r["len"]) in LAYER_GAIN:
            yield at_least("select and attend, %s, %s, x dense" % (r["selector"], cell(r)), LAYER_GAIN[r["batch"], r["len"]], r["speedup"])
