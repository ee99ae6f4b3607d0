#!/usr/bin/env python3
"""The tables of bench/REPORT.md and docs/durability.md that are made of rows (bench/results), between marks of their pages.

  report_tables.py             writes them
  report_tables.py --check     exit code 1, naming the page, where a page's tables are not those of the rows

A mark is `<!-- rows: NAME -->`, the end `<!-- rows end -->`. The sparse tables of the GPU are bench/gpu/report.py's."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT + "/scripts")
import soak_rows  # noqa: E402


def rows(name):
    return soak_rows.rows_of(f"{ROOT}/bench/results/{name}.jsonl")


def lines(head, body):
    return [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *(f"| {' | '.join(row)} |" for row in body)]


SETS = {"scifact": "SciFact", "nfcorpus": "NFCorpus", "cranfield": "Cranfield", "nq": "NQ passages", "msmarco-dl": "MS MARCO DL19 pool"}


def bm25_quality():
    ours, peers = {}, {}
    for row in rows("bm25_quality"):
        if "chunk_tokens" in row:
            ours[row["set"], row["chunk_tokens"]] = row["mean"]
        elif "peer" in row:
            peers[row["set"], row["peer"]] = row["ndcg_cut_10"]
    return lines(["set", "lectern", "R@100", "default chunks", "tantivy", "bm25s with stemming"],
                 [[name, f"{ours[key, 0]['nDCG@10']:.4f}", f"{ours[key, 0]['R@100']:.4f}", f"{ours[key, 256]['nDCG@10']:.4f}",
                   f"{peers[key, 'tantivy']:.4f}", f"{peers[key, 'bm25s-stem']:.4f}"] for key, name in SETS.items()])


def versus(row):
    return f"{row['difference']:+.4f} [{row['low']:.4f}, {row['high']:.4f}]", f"{row['wins']} / {row['losses']} / {row['ties']}"


def stop_words():
    body = []
    for row in rows("stop_words"):
        kept, dropped = row["kept"], row["dropped"]
        body.append([row["set"], f"{kept['nDCG@10']:.4f}", f"{dropped['nDCG@10']:.4f}", *versus(row), f"{kept['R@100']:.4f}, {dropped['R@100']:.4f}",
                     f"{100 * (dropped['bm25_bytes'] / kept['bm25_bytes'] - 1):+.1f} %"])
    return lines(["set", "kept", "dropped", "difference, 95 %", "wins / losses / ties", "R@100 kept, dropped", "bm25.bin"], body)


def fused(kind, head, setting):
    alone = {row["set"]: row for row in rows("fusion") if row["row"] == "set"}
    body = []
    for row in rows("fusion"):
        if row["row"] != kind:
            continue
        bm25, dense, both = (m["mean"] if "mean" in m else m for m in (alone[row["set"]]["bm25"], alone[row["set"]]["dense"], row))
        difference, wins = versus(row)
        body.append([SETS[row["set"]], f"{bm25['nDCG@10']:.4f}", f"{dense['nDCG@10']:.4f}", f"{both['nDCG@10']:.4f}{setting(row)}", difference, f"{row['p']:.4f}", wins,
                     f"{bm25['R@100']:.4f}, {dense['R@100']:.4f}, {both['R@100']:.4f}"])
    return lines(["set", "BM25", "MiniLM", head, "against the better, 95 %", "p", "wins / losses / ties", "R@100: BM25, MiniLM, fused"], body)


def fusion():
    return fused("default", "fused", lambda row: "")


def fusion_held_out():
    return fused("held_out", "fused as the other three choose", lambda row: f" ({row['method']}, vectors {row['dense_share']:.2f})")


def fusion_methods():
    grid = [row for row in rows("fusion") if row["row"] == "grid"]
    better = {row["set"]: max(row["bm25"]["nDCG@10"], row["dense"]["nDCG@10"]) for row in rows("fusion") if row["row"] == "set"}
    body = []
    for method in dict.fromkeys(row["method"] for row in grid):
        gains = {row["dense_share"]: [row[name] - better[name] for name in better] for row in grid if row["method"] == method}
        share = max(gains, key=lambda w: sum(gains[w]))
        body.append([method, f"{share:.2f}", f"{sum(gains[share]) / len(better):+.4f}", f"{min(gains[share]):+.4f}"])
    return lines(["method", "best share of the vectors", "mean gain", "least"], body)


def bm25_speed():
    found = {(row["set"], row.get("peer", "lectern")): row for row in rows("bm25_speed") if "set" in row}

    def cells(key, depth):
        row, theirs = found[key, "lectern"], found[key, "tantivy"][depth]["median"]
        rates = [row["first_pass_qps_top10"]] if depth == "qps_top10" else []
        rates.append(row[depth]["median"])
        return [f"{theirs:,.0f}", *(f"{rate:,.0f}" for rate in rates), f"{rates[0] / theirs:.1f}x"]
    return lines(["set", "top 10: tantivy", "lectern, each query new", "again", "new, against tantivy", "top 1000: tantivy", "lectern", ""],
                 [[name, *cells(key, "qps_top10"), *cells(key, "qps_top1000")] for key, name in SETS.items()])


def encoder():
    body = []
    for threads in (2, 1):
        runs = [row for row in rows("encoder_speed") if row.get("what") == "encode" and row["threads"] == threads]
        ours, theirs = [row for row in runs if "onnx" not in row], [row for row in runs if "onnx" in row]
        queries = "; ".join(f"{a['one_query_ms']['median']:.1f}, {b['one_query_ms']['median']:.1f}" for a, b in zip(ours, theirs))
        body.append([str(threads), ", ".join(f"{row['texts_per_s']:.1f}" for row in ours),
                     ", ".join(f"{row['texts_per_s']['median']:.1f}" for row in theirs), queries])
    return lines(["threads", "lectern float32", "ONNX Runtime float32", "one query, median ms: lectern, ONNX Runtime"], body)


def hnsw():
    found = {}
    for row in rows("hnsw"):
        engine = row.get("lib", "lectern").split()[0]
        found.setdefault((row.get("m"), row.get("ef")), {}).setdefault(engine, []).append(row)

    def cell(of):
        if not of:
            return ""
        recall = of[0]["recall_at_10"]
        rates = [f"{row['qps']['median']:,.0f}" for row in of]
        joined = ", ".join(rates[:-1]) + (" and " if len(rates) > 1 else "") + rates[-1]
        return f"{'1' if recall == 1 else f'{recall:.3f}'}, {joined}"
    order = sorted(found, key=lambda key: (key[0] is None, key))
    return lines(["M, ef", "lectern", "FAISS 1.15.1", "hnswlib 0.8.0"],
                 [["every vector" if m is None else f"{m}, {ef}", *(cell(found[m, ef].get(engine)) for engine in ("lectern", "faiss", "hnswlib"))]
                  for m, ef in order])


def reader_lines(model):
    """what -> engine -> round -> row of reader_zen3.jsonl."""
    found, of = {}, {}
    for row in rows("reader_zen3"):
        engine, line = row.get("engine"), row.get("line", {})
        if "model" in line:
            of[engine] = line["model"]
        elif of.get(engine) == model and "what" in line:
            found.setdefault(line["what"], {}).setdefault(engine, {})[row["round"]] = line
    return found


def reader_cells(of):
    """llama.cpp without and with flash attention, lectern, lectern against the better of the two; a number a round."""
    engines = ("llama.cpp flash off", "llama.cpp flash on", "lectern")
    rates = {engine: {r: line["tokens_per_s"]["median"] for r, line in of[engine].items()} for engine in engines}
    ratios = {r: ours / max(rates[engine][r] for engine in engines[:2]) for r, ours in rates["lectern"].items()}
    return [*(", ".join(f"{v:.1f}" for v in rates[engine].values()) for engine in engines), ", ".join(f"{v:.2f}" for v in ratios.values())]


READER_HEAD = ["", "llama.cpp, flash attention off", "on", "lectern", "against the faster"]


def reader_zen3():
    of = reader_lines("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")
    body = [[name, *reader_cells(of[what])] for what, name in
            (("pp512", "prompt, 512 tokens"), ("pp2048", "prompt, 2,048 tokens"), ("tg64@0", "generation at 0"), ("tg64@4096", "generation at 4,096"))]
    largest = [max((line for line in of["memory"][engine].values()), key=lambda line: line["n_ctx"]) for engine in ("llama.cpp flash off", "llama.cpp flash on", "lectern")]
    body.append([f"peak memory, {largest[0]['n_ctx']:,} tokens of context", *(f"{line['max_rss_MiB']:.0f} MiB" for line in largest), ""])
    return lines(READER_HEAD, body)


def reader_others():
    body = []
    for model, name in (("smollm2-135m-instruct-q4_1.gguf", "SmolLM2-135M Q4_1"), ("gemma3-270m-q4_k_m.gguf", "Gemma 3 270M Q4_K_M")):
        of = reader_lines(model)
        body += [[f"{name}, {text}", *reader_cells(of[what])] for what, text in
                 (("pp512", "prompt, 512 tokens"), ("tg64@0", "generation at 0"), ("tg64@4096", "generation at 4,096"))]
        body.append([f"{name}, peak MiB", *(f"{of['memory'][engine][1]['max_rss_MiB']:.0f}" for engine in ("llama.cpp flash off", "llama.cpp flash on", "lectern")), ""])
    return lines(READER_HEAD, body)


def reader_sapphire_rapids():
    found = {(row["what"], row["engine"].split()[0]): row for row in rows("sapphire_rapids") if row["what"] in ("pp512", "tg32@0", "tg32@4096", "memory")}
    body = []
    for what, name in (("pp512", "prompt, 512 tokens"), ("tg32@0", "generation at 0"), ("tg32@4096", "generation at 4,096")):
        mine, other = found[what, "lectern"]["tokens_per_s_median"], found[what, "llama-cpp-python"]["tokens_per_s_median"]
        body.append([name, f"{other:.1f}", f"{mine:.1f}", f"{mine / other:.2f}"])
    body.append(["peak memory, 4,136 tokens of context", *(f"{found['memory', engine]['max_rss_MiB']:.0f} MiB" for engine in ("llama-cpp-python", "lectern")), ""])
    return lines(["", "llama.cpp", "lectern", "ratio"], body)


PAGES = {
    "bench/REPORT.md": {make.__name__: make for make in (bm25_quality, stop_words, fusion, fusion_held_out, fusion_methods, bm25_speed, encoder, hnsw, reader_zen3, reader_others, reader_sapphire_rapids)},
    "docs/durability.md": {"soak": lambda: soak_rows.table(rows("soak")), "mutations": lambda: soak_rows.mutation_table(rows("soak"))},
}


def main():
    check, wrong = sys.argv[1:] == ["--check"], []
    for path, tables in PAGES.items():
        with open(f"{ROOT}/{path}", encoding="utf-8") as file:
            page = made = file.read()
        for name, make in tables.items():
            made, found = re.subn(rf"(<!-- rows: {name} -->\n).*?(<!-- rows end -->)", lambda mark, make=make: mark[1] + "\n".join(make()) + "\n" + mark[2],
                                  made, flags=re.DOTALL)
            if found != 1:
                wrong.append(f"{path}: {found} places are marked for {name}")
        if check and made != page:
            wrong.append(f"{path}: its tables are not those of the rows; bench/report_tables.py writes them")
        elif made != page:
            with open(f"{ROOT}/{path}", "w", encoding="utf-8") as file:
                file.write(made)
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
