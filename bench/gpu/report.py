"""Tables of the JSON lines that attention_bench.py wrote: python3 report.py FILE..."""
import json
import sys


def rows(paths):
    for path in paths:
        for line in open(path):
            yield json.loads(line)


def us(x):
    return "%.2f" % x if x else "-"


def main():
    recs = list(rows(sys.argv[1:]))
    env = [r for r in recs if r["kind"] == "env"]
    if env:
        e = env[-1]
        print("%s, driver %s, torch %s, cuDNN %s" % (e.get("device"), e.get("driver"), e.get("torch"), e.get("cudnn")))
    floor = {(r["shape"], r["batch"], r["len"], r.get("block"), r.get("sparsity")): r["us"] for r in recs if r["kind"] == "floor"}
    dense, best = {}, {}
    for r in recs:
        if r["kind"] == "dense" and r.get("us"):
            dense.setdefault((r["shape"], r["batch"], r["len"], r["mb"]), {})[r["peer"]] = r["us"]
        if r["kind"] == "dense_best":
            best[r["shape"], r["batch"], r["len"]] = r["us"]
    print("\ndense decode, us\n| heads | batch | keys | MB | floor | ours | best peer | peer / ours |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (shape, batch, n, mb), t in dense.items():
        peer = min((us, name) for name, us in t.items() if not name.startswith("lectern"))
        print("| %s | %d | %d | %.1f | %s | %.2f | %.2f (%s) | %.3f |" % (shape, batch, n, mb, us(floor.get((shape, batch, n, None, None))), t["lectern"], peer[0], peer[1], peer[0] / t["lectern"]))
    print("\nblock-sparse decode, us\n| heads | batch | keys | block | sparsity | MB | floor | ours | hot | x dense |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in recs:
        if r["kind"] == "sparse" and r["peer"] == "lectern":
            d = best.get((r["shape"], r["batch"], r["len"]))
            print("| %s | %d | %d | %d | %.1f | %.1f | %s | %.2f | %.2f | %s |" % (
                r["shape"], r["batch"], r["len"], r["block"], r["sparsity"], r["mb"],
                us(floor.get((r["shape"], r["batch"], r["len"], r["block"], r["sparsity"]))), r["us"],
                r["hot_us"], "%.2f" % (d / r["us"]) if d else "-"))
    print("\nselectors, us (blocks of 64)\n| selector | batch | keys | programmatic | MB | us |\n| --- | --- | --- | --- | --- | --- |")
    for r in recs:
        if r["kind"] == "selector":
            print("| %s | %d | %d | %s | %.2f | %.2f |" % (r["selector"], r["batch"], r["len"], r["programmatic"], r["mb"], r["us"]))
    print("\nselect and attend, 90 %, us\n| selector | batch | keys | us | dense peer | x dense |\n| --- | --- | --- | --- | --- | --- |")
    for r in recs:
        if r["kind"] == "layer":
            print("| %s | %d | %d | %.2f | %.2f | %s |" % (r["selector"], r["batch"], r["len"], r["us"], r["dense_us"], us(r["speedup"])))


if __name__ == "__main__":
    main()
