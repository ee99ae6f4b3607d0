"""Our decode kernels, selectors and append beside the peers and the read floor, on the same buffers in one process, in turns.

    python3 attention_bench.py dense --lib liblectern_attention_c.so --peers-dir <peers/gpu> --out dense.jsonl

Steps: roofs, dense, layout, sparse, selector, layer (dense_bench.py, sparse_bench.py, selector_bench.py). How a time is taken: timing.py. A cell
(shape, batch, keys) is the unit: all its kinds are replayed in turns, then what the replays wrote is held to fp64 (reference.py) for the
first and the last buffer set and sequence; a call whose output is wrong gets a row `wrong` and no time. --out is appended to, and cells
that it already has of the same device, commit and arguments are skipped. Exit code 3: the time limit came before the last cell;
1: something was wrong."""
import os
import sys

import torch


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [here, sys.argv[sys.argv.index("--peers-dir") + 1]]
    import session
    args = session.parser(__doc__).parse_args()
    sys.argv = sys.argv[:1]
    torch.set_default_device("cuda")
    import dense_bench
    import selector_bench
    import sparse_bench
    cells = {"dense": dense_bench.dense, "layout": dense_bench.layout, "sparse": sparse_bench.sparse, "selector": selector_bench.selector,
             "layer": selector_bench.layer}
    s = session.Session(args)
    if args.step == "roofs":
        dense_bench.roofs(s)
    else:
        s.cells(cells[args.step])
    sys.exit(1 if s.rows.wrong else 3 if s.stopped else 0)


if __name__ == "__main__":
    main()
